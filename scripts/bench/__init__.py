"""The parts of `scripts/bench.py`: what is compared, how it is watched, and what is written."""
