"""Datasets drawn at random: tables of odd values, models over them with rollups of every sort, questions, changes."""
