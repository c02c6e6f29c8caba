#!/usr/bin/env python
"""The demo: does transfer from drawn textures to drawn lesions help? Offline, a few minutes.

    1. a study: drawn lesions from random weights, from a source trained on drawn textures, and
       from that source with its first units frozen; the sources are trained first
    2. its state, the table, and the report: a page that answers in words

The same command again resumes, or finds everything done.
"""

import sys

from tlcnn.cli.main import main as tlcnn
from tlcnn.train import main

OUTPUT = "outputs/demo"


def train(*words: str) -> None:
    """Show a command and run it."""
    print(f"$ python -m tlcnn.train {' '.join(words)}", flush=True)
    code = main(list(words))
    if code:
        sys.exit(code)


def show(*words: str) -> None:
    """Show a command of `tlcnn` and run it."""
    print(f"\n$ tlcnn {' '.join(words)}", flush=True)
    tlcnn(words)


if __name__ == "__main__":
    train("experiment=demo")
    show("status", OUTPUT)
    show("compare", OUTPUT, "--seeds")
    show("report", OUTPUT, "-o", f"{OUTPUT}/report")
    print(f"\nOpen {OUTPUT}/report/index.html. Every run has a folder in {OUTPUT}/runs.")
