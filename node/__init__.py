"""The network node handles instances: associations, files, ledger, jobs and deliveries. It never looks at pixels."""
