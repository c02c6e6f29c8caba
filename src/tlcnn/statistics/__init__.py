"""Intervals, tests and power, for numbers that vary with the seed and with the test images."""
