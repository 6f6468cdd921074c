"""Generated stubs of the package querybroker.v1; written by scripts/gen."""
