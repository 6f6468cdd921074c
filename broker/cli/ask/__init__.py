"""Questions as people write them, on the command line and in YAML or JSON files, turned into requests."""
