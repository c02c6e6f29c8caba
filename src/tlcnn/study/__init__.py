"""Runs as cells, arms, comparisons and answers. Nothing here imports torch."""
