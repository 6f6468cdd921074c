"""Interfaces that the inner layers need and the adapters fulfil."""
