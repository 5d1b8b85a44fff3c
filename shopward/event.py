"""What happened: the reserved words of an event, its time, its id, and flattening."""
