"""Signals that stop a run: they set a flag, which long work asks at safe moments."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tlcnn.errors import Stopped

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")


class StopRequest:
    """Whether a signal has arrived; true once it has."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None

    def check(self) -> None:
        """Raise Stopped when a signal has arrived."""
        if self.signal_name:
            raise Stopped(f"stopped by {self.signal_name}; repeat the command to continue")


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Yield a flag that SIGTERM, SIGINT, SIGUSR1 and 2 set; a second SIGINT interrupts at once.

    Inside another `catch_signals`, like a run inside a sweep, it is the flag of the outer one.
    Outside the main thread, where Python handles no signals, the flag is never set.
    """
    outer = getattr(signal.getsignal(signal.SIGTERM), "request", None)
    if outer is not None:
        yield outer
        return
    request = StopRequest()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal_name = signal.Signals(number).name

    on_signal.request = request  # type: ignore[attr-defined]
    is_main = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, n) for n in SIGNALS if is_main and hasattr(signal, n)]
    earlier = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
