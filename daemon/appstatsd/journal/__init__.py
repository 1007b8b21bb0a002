"""Durability: what was acknowledged survives a kill and a loss of power."""
