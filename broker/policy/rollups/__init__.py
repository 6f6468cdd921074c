"""Which rollups may answer a scan, and which cover of it is the cheapest."""
