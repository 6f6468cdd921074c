"""A gRPC query broker in front of PostgreSQL."""
