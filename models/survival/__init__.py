"""Survival: times to an event, models of the hazard, and their honest validation."""
