"""The demonstration: an embedded PostgreSQL, real flights, a broker and a worker in one command."""
