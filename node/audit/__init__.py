"""The audit trail beyond the ledger: its head kept beside it, and DICOM audit messages over syslog (PS3.15 A.5)."""
