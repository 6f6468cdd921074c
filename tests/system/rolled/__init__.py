"""Answers from rollups beside those of the tables, through everything that a user has to do with."""
