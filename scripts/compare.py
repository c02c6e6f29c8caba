#!/usr/bin/env python
"""Print the table of runs: `python scripts/compare.py outputs` (the same as `tlcnn compare`)."""

import sys

from tlcnn.cli.main import main

main(["compare", *sys.argv[1:]])
