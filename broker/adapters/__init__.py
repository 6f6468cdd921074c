"""The outside world behind the ports: PostgreSQL, caches, files; the only home of their libraries."""
