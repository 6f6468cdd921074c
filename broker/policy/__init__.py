"""Pure decisions: time and seeds are arguments, nothing here awaits."""
