"""What a process of the pool does instead of an analysis, without torch."""

import os
import signal
import time
from pathlib import Path

from tlcnn.run.job import Outcome


def try_analysis(word: str, device: str, is_patient: bool) -> Outcome:
    """End as a word says: `die`, `fail`, a path of a file to be made before a long sleep, ..."""
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word.startswith("/"):
        Path(word).write_text(str(os.getpid()))
        time.sleep(600)
    return Outcome(2 if word == "fail" else 0, word, os.environ["OMP_NUM_THREADS"])
