"""Signals as a question the loop asks: has somebody told this run to stop?"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tlcnn.errors import Stopped

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")


class StopRequest:
    """A flag that signals set and long work polls."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None

    def check(self) -> None:
        """Raise Stopped when a signal has arrived."""
        if self.signal_name:
            raise Stopped(
                f"stopped by {self.signal_name}; the same command again goes on from here"
            )


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Yield a flag that SIGTERM, SIGINT, SIGUSR1 and 2 set; a second SIGINT interrupts at once.

    Inside another `catch_signals`, as a run inside a sweep is, it is the same flag. Outside the
    main thread, where Python has no signals, it is never set.
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
    with _handlers(on_signal):
        yield request


@contextmanager
def _handlers(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
