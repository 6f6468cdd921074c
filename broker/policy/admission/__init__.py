"""Admission: who runs now, who waits, who is refused, and how many may run. Pure decisions on a given clock."""
