"""`tlcnn data audit`: find duplicate images, and splits that share images or groups."""

import argparse
import json
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlcnn.config.spelling import write_shell_word
from tlcnn.errors import DataError, list_names
from tlcnn.storage import write_atomic
from tlcnn.text import count, print_text

if TYPE_CHECKING:
    import pandas as pd

    from tlcnn.config.schema import DatasetCfg
    from tlcnn.data.audit import Audit
    from tlcnn.data.dataset import Dataset
    from tlcnn.data.overlap import Overlap

TITLES = {
    "bytes": "equal files",
    "picture": "near-duplicates",
    "squashed": "squashed to a square, or stretched",
    "cut": "cut to the centre square",
    "turned": "mirrored or turned by quarters",
}
_WAYS = ("group_regex", "group_column")  # other ways to say what a group is
N_SHOWN = 5  # pairs; all of them go to --pairs FILE


def add_audit(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `audit` to the parser of `tlcnn data`."""
    parser = actions.add_parser(
        "audit",
        help="find duplicate images, also across splits",
        description="Reports groups, equal files and near-duplicates within and across splits. "
        "Exits with 2 when a split leaks.",
    )
    parser.add_argument("name", metavar="NAME", help="as in dataset=NAME")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="e.g. dataset.split=grouped")
    parser.add_argument("--root", metavar="DIR", help="the folder with the images")
    parser.add_argument(
        "--against",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME[=DIR]",
        help="also compare the test images with the training images of these datasets, because a "
        "run may start from weights that were trained on them",
    )
    parser.add_argument("--pairs", metavar="FILE", type=Path, help="write all pairs as CSV")
    parser.add_argument(
        "--groups",
        metavar="FILE",
        type=Path,
        help="write groups that hold all images of one picture as CSV, for a folder or table with "
        "dataset.options.groups=FILE",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the whole report as JSON")
    parser.set_defaults(command=_audit)


def _audit(options: argparse.Namespace) -> None:
    from tlcnn.run.job import log_to_stderr

    log_to_stderr(logging.INFO)  # long work says how far it is
    # A dataset's name has no dot, an override's key has: --against takes all words that follow.
    is_key = ["." in word.split("=")[0] for word in options.against]
    against = [word for word, key in zip(options.against, is_key, strict=True) if not key]
    overrides = [word for word, key in zip(options.against, is_key, strict=True) if key]
    audit = load_audit(options.name, options.words + overrides, options.root, against)
    print_text(describe_audit(audit))
    if options.pairs:
        write_atomic(options.pairs, audit.pairs.to_csv(index=False))
        print_text(f"wrote {options.pairs}")
    if options.groups:
        write_atomic(options.groups, audit.groups.to_csv(index=False))
        cfg = _compose(options.name, options.words + overrides, options.root)
        ways = [f"dataset.options.{name}" for name in _WAYS if cfg.options.get(name)]
        instead = f", instead of {ways[0]}" if ways else ""
        word = write_shell_word("dataset.options.groups", str(options.groups))
        print_text(f"wrote {options.groups}: train with {word} dataset.split=grouped{instead}")
    if options.json:
        write_atomic(options.json, json.dumps(audit.record(), indent=1))
        print_text(f"wrote {options.json}")
    if audit.is_leaking:
        raise DataError(_advise(audit))


def load_audit(name: str, overrides: list[str], root: str | None, against: list[str]) -> "Audit":
    """Audit a configured dataset.

    Args:
        name: the name of a file in `conf/dataset`.
        overrides: the overrides of a training's command line.
        root: the dataset's folder, or None for the configured one.
        against: other datasets, NAME or NAME=FOLDER.

    Raises:
        ConfigError, DataError, StorageError: as a training of this dataset would.
    """
    from dataclasses import replace

    from tlcnn.config.schema import find_cache_dir
    from tlcnn.data.audit import compute_audit
    from tlcnn.data.overlap import find_overlap
    from tlcnn.plan.ancestry import make_part
    from tlcnn.plan.few_groups import describe_few_groups

    start = time.perf_counter()
    cache_dir = find_cache_dir(None)
    cfg = _compose(name, overrides, root)
    dataset = _load_dataset(cfg, cache_dir)

    def compare(trained_on: "DatasetCfg") -> "Overlap":
        training = make_part(_load_dataset(trained_on, cache_dir), "train")
        return find_overlap(make_part(dataset, "test"), training, cache_dir)

    comparisons: dict[str, Callable[[], Overlap]] = {}
    for text in against:
        other_name, _, other_root = text.partition("=")
        comparisons[other_name] = partial(compare, _compose(other_name, [], other_root or None))
    audit = compute_audit(dataset, cache_dir, comparisons)
    few = describe_few_groups(dataset.index, dataset.splits, cfg) if cfg.folds is None else ""
    notes = (*audit.notes, *([few] if few else []))
    return replace(audit, notes=notes, seconds=time.perf_counter() - start)


def _compose(name: str, overrides: list[str], root: str | None) -> "DatasetCfg":
    from tlcnn.config.compose import compose_config
    from tlcnn.config.schema import check_config

    config = compose_config([f"dataset={name}", *overrides])
    check_config(config)
    if root is not None:
        config.dataset.root = root
    return config.dataset


def _load_dataset(cfg: "DatasetCfg", cache_dir: Path) -> "Dataset":
    from tlcnn.data.dataset import load_dataset, load_dataset_index

    cfg = replace(cfg, train_images=None)  # the audit is of all images
    index = load_dataset_index(cfg)
    if index.hint:
        logging.getLogger(__name__).warning("%s", index.hint)
    # Splits that share groups are no error here but a finding.
    return load_dataset(cfg, index, cache_dir, check=False)


# ---- in words -----------------------------------------------------------------------------------


def describe_audit(audit: "Audit") -> str:
    """Return the report for the terminal: the splits, what was found, and what was not."""
    lines = [f"{audit.name}: {count(sum(audit.n_images.values()), 'image')}"]
    for split, n_images in audit.n_images.items():
        classes = ", ".join(f"{name} {n:,}" for name, n in audit.n_per_class[split].items())
        sizes = f"{count(n_images, 'image')}, {count(audit.n_groups[split], 'group')}"
        lines.append(f"  {split:<5} {sizes}: {classes}")
    findings: list[str] = []
    others: list[str] = []
    for is_found, block in _describe_checks(audit):
        (findings if is_found else others).append(block)
    for title, blocks in (("found:", findings), ("not found:", others)):
        lines += [title, *blocks] if blocks else []
    lines += [f"note: {note}" for note in audit.notes]
    left_out = (
        f" (pairs of equal fingerprints left out, as they are too many: {audit.n_left_out:,})"
    )
    lines.append(
        f"compared by pixels: {count(audit.n_looked, 'pair')}, whose fingerprints differ in at "
        f"most {audit.max_bits} of 64 bits, of mirrored and turned ones in "
        f"{audit.max_turned_bits}{left_out if audit.n_left_out else ''}; copies "
        "that were turned by other angles than quarters, or cut elsewhere, are not found"
    )
    lines.append(f"{'LEAKS' if audit.is_leaking else 'no leak found'} ({audit.seconds:.1f} s)")
    return "\n".join(lines)


def _describe_checks(audit: "Audit") -> Iterator[tuple[bool, str]]:
    """Yield what each check says, and whether it found anything."""
    shared = [f"{group} ({', '.join(where)})" for group, where in audit.shared_groups.items()]
    yield bool(shared), f"groups in more than one split: {len(shared):,}{_list(shared)}"
    for kind, title in TITLES.items():
        pairs = audit.pairs[audit.pairs["kind"] == kind]
        yield len(pairs) > 0, _describe_pairs(title, pairs)
    touched = ", ".join(
        f"{n:,} of {count(audit.n_images[split], f'{split} image')}"
        for split, n in audit.n_touched.items()
        if n
    )
    text = f"their picture is in train as well: {touched or 'no test or val image'}"
    yield bool(touched), text
    if audit.n_unprinted:
        yield True, f"blank or broken, compared by their bytes only: {audit.n_unprinted:,}"
    for name, overlap in audit.against.items():
        near = [f"{first} = {second}" for first, second in overlap.near]
        facts = {"group": overlap.groups, "id": overlap.ids, "bytes": overlap.copies}
        lines = [
            f"  by {kind}: {len(ids):,}{_list(ids)}"
            for kind, ids in {**facts, "picture": near}.items()
            if ids or not overlap
        ]
        if overlap.n_unconfirmed:
            lines.append(
                f"  alike, but their pixels cannot be compared: {overlap.n_unconfirmed:,}"
            )
        is_found = bool(overlap) or overlap.n_unconfirmed > 0
        yield is_found, "\n".join([f"test images that are training images of {name}:", *lines])


def _describe_pairs(title: str, pairs: "pd.DataFrame") -> str:
    lines = [f"{title}: {count(len(pairs), 'pair')}"]
    is_across = pairs["first_split"] != pairs["second_split"]
    is_apart = pairs["first_group"] != pairs["second_group"]
    apart, leaks = pairs[~is_across & is_apart], pairs[pairs["leaks"]]
    if len(pairs):
        lines += [
            f"  within a split: {(~is_across).sum():,}, of which in different groups (another "
            f"split_seed may separate them): {len(apart):,}"
            f"{_list(map(_name, apart.to_dict('records')))}",
            f"  across splits: {is_across.sum():,}, of which in different groups: {len(leaks):,}"
            f"{_list(map(_name, leaks.to_dict('records')))}",
        ]
    contradictory = pairs[pairs["first_label"] != pairs["second_label"]]
    if len(contradictory):
        names = _list(map(_name, contradictory.to_dict("records")))
        lines.append(f"  with different labels: {len(contradictory):,}{names}")
    return "\n".join(lines)


def _name(pair: dict[Hashable, Any]) -> str:
    return " = ".join(
        f"{pair[f'{side}_image']} [{pair[f'{side}_split']}, {pair[f'{side}_group']}, "
        f"{pair[f'{side}_label']}]"
        for side in ("first", "second")
    )


def _list(names: Iterable[str]) -> str:
    shown = list(names)
    lines = [f"\n    {name}" for name in shown[:N_SHOWN]]
    rest = len(shown) - N_SHOWN
    return "".join(lines) + (f"\n    and {rest:,} more" if rest > 0 else "")


def _advise(audit: "Audit") -> str:
    problems, advice = [], []
    if audit.shared_groups:
        n_shared, verb = len(audit.shared_groups), "is" if len(audit.shared_groups) == 1 else "are"
        problems.append(f"{count(n_shared, 'group')} {verb} in more than one split")
        advice.append("let tlcnn split by group with dataset.split=grouped")
    if len(audit.leaks):
        ids = (audit.leaks["first_image"] + " = " + audit.leaks["second_image"]).tolist()
        problems.append(
            f"images across splits show one picture, {count(len(ids), 'time')} "
            f"({list_names(ids, 2)})"
        )
        if audit.n_touched["test"]:
            problems[-1] += (
                f", so {audit.n_touched['test']:,} of "
                f"{count(audit.n_images['test'], 'test image')} are known from training"
            )
        advice.append(
            "give all images of a picture one group (--groups FILE writes such groups for "
            "dataset.options.groups=FILE), or take some away (--pairs FILE)"
        )
    other_names = [name for name, overlap in audit.against.items() if overlap]
    if other_names:
        problems.append(f"test images are training images of {list_names(other_names)}")
        advice.append("do not start from weights trained on these, or take the images away")
    return f"{audit.name} leaks: {'; '.join(problems)}. To repair it: {'; '.join(advice)}."
