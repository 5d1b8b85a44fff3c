"""Models: training tables from events, models that give their reasons, an auditor for leaks, a registry, drift."""
