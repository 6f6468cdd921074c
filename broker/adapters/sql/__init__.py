"""SQL as a tree: plans compiled for PostgreSQL, and the gate for SQL that callers write."""
