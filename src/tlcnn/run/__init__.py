"""One run, from its plan to its finished folder."""
