"""Models of databases under load."""
