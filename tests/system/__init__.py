"""The whole broker as a process, over real gRPC and PostgreSQL, while things go wrong."""
