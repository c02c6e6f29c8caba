"""The exception tree. Every message says what was given, what is allowed and what to do next.

TlcnnError           exit code
├── ConfigError          1      a key, value, unit name or combination that is not allowed
│   └── ImpossibleCell   1      a cell that would freeze fresh units; a sweep leaves it out
│       └── TooFewClasses 1     a cell that holds out too much
├── DataError            2      images or tables that are missing, broken or contradictory
├── WeightsError         2      weights that are missing, broken, unsafe or do not fit
├── Diverged             3      the loss or a gradient is not finite
├── BrokenPromise        4      a frozen tensor changed, which is a bug in tlcnn
├── RunLocked           73      another process holds the run
├── StorageError        74      the disk is full, or a file cannot be read or written
│   └── CannotCreate    73      a folder cannot be made
├── SweepFailed        any      runs of a sweep failed: their code, or 1 if their codes differ
└── Stopped             75      a signal stopped the run, which has saved its state
"""


class TlcnnError(Exception):
    """Base of every error that tlcnn raises on purpose."""

    exit_code = 1


class ConfigError(TlcnnError):
    """A configuration that cannot be run."""


class ImpossibleCell(ConfigError):
    """A cell that freezes more units than it transfers. A sweep leaves it out."""

    why = "more units are frozen than transferred"  # what a sweep says


class DroppedUnits(ImpossibleCell):
    """A cell that freezes units which `init.above=truncate` drops."""

    why = "units would be frozen that init.above=truncate drops"


class TooFewClasses(ImpossibleCell):
    """A cell that would be trained or tested on fewer than two classes."""

    why = "fewer than two classes would be trained or tested"


class DataError(TlcnnError):
    """Images or tables that are missing, broken or contradictory."""

    exit_code = 2


class WeightsError(TlcnnError):
    """Weights that are missing, broken, unsafe or do not fit the model."""

    exit_code = 2


class Diverged(TlcnnError):
    """A loss or gradient that is not finite."""

    exit_code = 3


class BrokenPromise(TlcnnError):
    """A frozen tensor that has changed."""

    exit_code = 4


class RunLocked(TlcnnError):
    """A run that another process is training."""

    exit_code = 73


class StorageError(TlcnnError):
    """A disk that is full, missing or not writable."""

    exit_code = 74


class CannotCreate(StorageError):
    """A folder that cannot be made."""

    exit_code = 73


class SweepFailed(TlcnnError):
    """Some runs of a sweep failed; all others are finished.

    Args:
        message: a text that names the failed runs.
        codes: the exit codes of the failed runs.
    """

    def __init__(self, message: str, codes: "set[int]") -> None:
        super().__init__(message)
        self.exit_code = codes.pop() if len(codes) == 1 else 1


class Stopped(TlcnnError):
    """A run that was stopped by a signal and has saved its state."""

    exit_code = 75


def list_names(names: "list[str] | tuple[str, ...]", limit: int = 5) -> str:
    """Return the first names of a list, and how many more there are, as text.

    Example:
        >>> list_names(["a", "b", "c"], limit=2)
        'a, b and 1 more'
    """
    shown = ", ".join(str(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def did_you_mean(given: str, allowed: "list[str] | tuple[str, ...]", likeness: float = 0.5) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest allowed name, or an empty string.

    Example:
        >>> did_you_mean("layr3", ["layer2", "layer3"])
        " Did you mean 'layer3'?"
    """
    import difflib

    close = difflib.get_close_matches(
        str(given), [str(name) for name in allowed], n=1, cutoff=likeness
    )
    return f" Did you mean '{close[0]}'?" if close else ""
