"""Predictions that are written in parts, so that an interrupted command goes on.

FILE.parts/job.json       what is computed: runs, images, options, possible checks
FILE.parts/000000.parquet the rows of one part
FILE                      all of them; FILE.json says what it was computed from, and which images
                          have which kind of warning
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tlcnn import __version__
from tlcnn.errors import ConfigError, DataError
from tlcnn.inference.familiar import can_open_images
from tlcnn.inference.image_list import ImageList
from tlcnn.inference.network import Network
from tlcnn.model.weights import RUN_WEIGHTS
from tlcnn.records.files import read_digests
from tlcnn.records.write import make_parquet
from tlcnn.storage import digest_of, digest_of_file, hold_lock, make_dir, write_atomic, writing

log = logging.getLogger(__name__)

FORMATS = (".csv", ".parquet")
TEXTS = ("image_id", "group", "split", "label", "class", "group_class", "warnings")  # columns
VERSION = 2  # raised when the rows of a part change


@dataclass(frozen=True)
class PartStore:
    """The parts of one output: in a folder beside it, or in memory where no file is asked for."""

    path: Path | None
    job: Mapping[str, Any]
    _frames: dict[int, pd.DataFrame] = field(default_factory=dict, repr=False)

    @classmethod
    def open(
        cls,
        output: str | Path | None,
        networks: Sequence[Network],
        images: ImageList,
        options: Mapping[str, Any],
    ) -> "PartStore":
        """Return the store of an output.

        Raises:
            ConfigError: the file is of another kind than `FORMATS`.
            DataError: parts of another job are in the way.
        """
        if output is None:
            return cls(None, {})
        path = Path(output).expanduser()
        if path.suffix.lower() not in FORMATS:
            raise ConfigError(f"{path} is not allowed: a name ends in {' or '.join(FORMATS)}")
        table = hashlib.sha256(images.table.to_csv(index=False).encode()).hexdigest()
        content = [images.dataset, table, images.images.signature()]
        job = {
            "version": VERSION,
            "tlcnn": __version__,
            "runs": [n.record.run_id for n in networks],
            "weights": [read_digests(n.run.folder).get(RUN_WEIGHTS) for n in networks],
            "images": {"n": len(images), "digest": digest_of(content)},
            "devices": [n.device for n in networks],
            "run_images": [can_open_images(n) for n in networks] if options["checks"] else [],
            "options": dict(options),
        }
        return cls(path, job)

    @property
    def folder(self) -> Path:
        """The folder of the parts."""
        assert self.path is not None
        return self.path.with_name(f"{self.path.name}.parts")

    @property
    def is_done(self) -> bool:
        """Whether the output is there, unchanged, and of this job."""
        if self.path is None or not self.path.is_file():
            return False
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
            del record["warned"]
            is_same = record.pop("sha256") == digest_of_file(self.path) and record == self.job
        except (OSError, ValueError, KeyError, AttributeError):
            return False
        if is_same:
            log.info("already done: %s", self.path)
        return is_same

    @property
    def _record(self) -> Path:
        assert self.path is not None
        return self.path.with_name(f"{self.path.name}.json")

    @contextmanager
    def hold(self, check_stop: Callable[[], None]) -> Iterator[None]:
        """Hold the folder of the parts, or wait for the process that does.

        The parts are deleted at the end of the block, unless it ends with an error.
        """
        if self.path is None:
            yield
            return
        make_dir(self.folder)

        def say_wait() -> None:
            log.info("waiting for another process that writes %s", self.path)

        lock = self.folder / "lock"
        with hold_lock(lock, on_wait=say_wait, check_stop=check_stop):
            job = self.folder / "job.json"
            if job.is_file() and json.loads(job.read_text(encoding="utf-8")) != self.job:
                raise DataError(
                    f"{self.folder} holds parts of another command (other runs, images or "
                    "options). Delete it, or choose another output"
                )
            write_atomic(job, json.dumps(self.job, indent=1))
            yield
        with writing(self.folder):
            shutil.rmtree(self.folder)

    def has(self, number: int) -> bool:
        """Return whether a part is stored."""
        return self.path is not None and self._part(number).is_file()

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"

    def write(self, number: int, frame: pd.DataFrame) -> None:
        """Store a part. Raises StorageError."""
        if self.path is None:
            self._frames[number] = frame
        else:
            write_atomic(self._part(number), make_parquet(frame))

    def load(self, number: int) -> pd.DataFrame:
        """Return a part that is stored."""
        return self._frames[number] if self.path is None else pd.read_parquet(self._part(number))

    def finish(self, whole: pd.DataFrame, warned: Mapping[str, list[str]]) -> pd.DataFrame:
        """Write the output and return the table. Raises StorageError.

        Args:
            warned: the ids of the images with each kind of warning.
        """
        if self.path is not None:
            is_csv = self.path.suffix.lower() == ".csv"
            # Nine digits give every float32, and so every logit, its bits back.
            text = whole.to_csv(index=False, float_format="%.9g") if is_csv else ""
            content = text if is_csv else make_parquet(whole)
            write_atomic(self.path, content)
            record = {**self.job, "sha256": digest_of_file(self.path), "warned": warned}
            write_atomic(self._record, json.dumps(record, indent=1))
        whole.attrs["warned"] = warned
        return whole

    def read(self) -> pd.DataFrame:
        """Return the output that is there."""
        assert self.path is not None
        if self.path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(self.path)
        else:
            frame = pd.read_csv(self.path, dtype=dict.fromkeys(TEXTS, str))
            texts = [column for column in frame.columns if column in TEXTS]
            logits = [column for column in frame.columns if column.startswith("logit/")]
            frame[texts] = frame[texts].fillna("")
            frame = frame.astype(dict.fromkeys(logits, "float32"))
        frame.attrs["warned"] = json.loads(self._record.read_text(encoding="utf-8"))["warned"]
        return frame
