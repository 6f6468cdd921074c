"""Rollups that are not trusted blindly, and what they are trusted with while nothing else answers."""
