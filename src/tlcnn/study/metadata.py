"""What is recorded of test images beside their class, such as age and sex.

Run folders hold no such columns: they are read from the dataset where it is at hand, or from a
table. So nothing about patients is copied into folders that are shared.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tlcnn.data.dataset import find_root, recall_index
from tlcnn.data.files import FileRef
from tlcnn.data.hold_out import read_column
from tlcnn.data.splits import manifest_digest
from tlcnn.data.tabular import check_columns, check_unique, load_table_text
from tlcnn.errors import ConfigError, DataError
from tlcnn.memory import Memory
from tlcnn.records.config import read_config
from tlcnn.records.files import SPLITS
from tlcnn.records.read import read_table
from tlcnn.study.runs import Run

IMAGE_COLUMNS = ("image_id", "image")  # of a table
_HINT = "Give a table with the columns image_id and {} with --metadata FILE"


class NoColumn(ConfigError):
    """A dataset without a column that was asked for."""


def load_metadata(
    run: Run,
    image_ids: Sequence[str],
    columns: Sequence[str],
    memory: Memory,
    *,
    file: Path | None = None,
) -> tuple[pd.DataFrame, int]:
    """Return columns of images of a run as texts, and how many of the images have no row.

    The texts are one row an image, "" for what is not recorded.

    Args:
        file: a table with an image a row; None reads the dataset of the run again.

    Raises:
        NoColumn: there is no such column; the message names those that there are.
        DataError: the dataset is not there, or is not the one that the run was tested on; or a
            table that lacks a column, names an image twice, or names none of the images.
    """
    if file is None:
        table = _load_index_table(run, columns, memory)
        source = run.dataset
    else:
        table, source = _load_file(file, columns), str(file)
    option = f"--by {','.join(columns)}"
    try:
        values = {name: read_column(table, name, source, option) for name in columns}
    except ConfigError as error:
        raise NoColumn(str(error)) from error
    frame = pd.DataFrame(values).set_axis(table["image_id"].astype(str), axis="index")
    n_without_row = len(set(image_ids) - set(frame.index))
    if n_without_row == len(set(image_ids)):
        raise DataError(
            f"{source} names none of the {len(image_ids):,} test images of {run.dataset}, such as "
            f"{image_ids[0]}"
        )
    texts = frame.reindex(list(image_ids), fill_value="").reset_index(drop=True)
    return texts, n_without_row


def _load_index_table(run: Run, columns: Sequence[str], memory: Memory) -> pd.DataFrame:
    """Read the index of a run's dataset, and check that its images are those of the run."""
    hint = _HINT.format(" and ".join(columns))
    if run.is_imported:
        raise DataError(f"predictions of another tool come with no dataset. {hint}")
    cfg = read_config(Path(run.folder)).dataset
    try:
        index = recall_index(cfg, memory)
    except DataError as error:
        raise DataError(f"{error}\n{hint}") from error
    table = read_table(Path(run.folder) / SPLITS).set_index("image_id")
    ids = index.table["image_id"]
    manifest = ""
    if len(table) == len(ids) and set(table.index) == set(ids):
        of_images = table.loc[ids.tolist()]
        splits, digests = of_images["split"].to_numpy(), of_images["digest"].tolist()
        manifest = manifest_digest(index.table, index.classes, splits, digests, index.targets)
    if manifest != run.plan.manifest:
        raise DataError(
            f"{find_root(cfg)} does not hold the images, classes and groups that "
            f"{Path(run.folder).name} was tested on. {hint}"
        )
    return index.table


def _load_file(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table, in which images are named as in predictions."""
    if not file.is_file():
        raise DataError(f"--metadata {file}: there is no such file")
    frame = load_table_text(FileRef(file))
    names = [name for name in IMAGE_COLUMNS if name in frame]
    check_columns(frame, [*(names[:1] or IMAGE_COLUMNS[:1]), *columns], str(file))
    frame = frame.rename(columns={names[0]: "image_id"})
    check_unique(frame, str(file), columns[0])
    return frame
