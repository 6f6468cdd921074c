"""Names, units and attributes of every span and metric; `setup` alone knows the SDK."""
