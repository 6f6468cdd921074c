"""Python client of the query broker."""
