"""Speed, shown: every benchmark runs its peer in the same process run and prints the ratio."""
