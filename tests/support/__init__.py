"""Helpers for tests; imports nothing of the broker's request path."""
