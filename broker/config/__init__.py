"""The configuration file, its model and its checks: one frozen tree of settings."""
