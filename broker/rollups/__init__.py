"""Rollups: building, refreshing, verifying and advising."""
