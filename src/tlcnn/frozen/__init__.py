"""Outputs of frozen units, computed once and read by every run that needs them."""
