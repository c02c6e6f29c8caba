"""A configuration, resolved: everything that a run will do, as a value with an id."""
