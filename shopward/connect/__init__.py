"""Other systems: where events come from and decisions go."""
