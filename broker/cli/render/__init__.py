"""Answers and errors as people read them in a terminal."""
