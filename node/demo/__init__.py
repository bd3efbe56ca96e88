"""The demonstration: a console, the node, a TPS and a PACS on one machine, over real associations."""
