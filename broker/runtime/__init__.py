"""Asynchronous mechanisms: executor pools, admission shell, lifecycle; no gRPC, no database."""
