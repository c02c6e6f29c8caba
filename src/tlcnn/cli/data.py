"""`tlcnn data get | list | audit`: datasets from where they are published, verified."""

import argparse
import os
from pathlib import Path

from tlcnn.cli.audit import add_audit
from tlcnn.errors import Stopped
from tlcnn.text import print_text

MIRROR_VARIABLE = "TLCNN_MIRROR"


def add_data(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `data` and its own commands to the parser of `tlcnn`."""
    parser = commands.add_parser("data", help="get datasets, list them, audit them")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    _add_get(actions)
    _add_list(actions)
    add_audit(actions)


def _add_get(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = actions.add_parser(
        "get",
        help="download a dataset, verified; repeat it to go on after a break",
        epilog=f"{MIRROR_VARIABLE}=URL_PREFIX in the environment takes the place of the scheme "
        "and host of every source: a laboratory's own copy, or a server for tests",
    )
    parser.add_argument("name", metavar="NAME", help="as in: tlcnn data list")
    parser.add_argument("--route", help="where from: isic (default) or dataverse for ham10000")
    parser.add_argument("--size", type=int, help="pixels a side of MedMNIST: 28, 64, 128 or 224")
    parser.add_argument("--root", type=Path, metavar="DIR", help="default: see tlcnn data list")
    parser.add_argument(
        "--mirror",
        nargs="+",
        action="extend",
        default=[],
        metavar="URL_PREFIX",
        help="tried in order before the source, in place of its scheme and host",
    )
    parser.set_defaults(command=_get)


def _get(options: argparse.Namespace) -> None:
    from tlcnn.data.obtain import obtain
    from tlcnn.data.sources import DRAWN, find_route, find_source

    if options.name in DRAWN:
        print_text(f"{options.name} is drawn, not downloaded: nothing to do")
        return
    source = find_source(options.name, options.size)
    route = find_route(source, options.route)
    root = options.root or Path(source.root)
    print_text(f"{source.name}: {source.what}\nlicence: {source.licence}")
    print_text(f"from {route.page} to {root}", flush=True)
    try:
        obtain(
            source,
            route,
            root,
            mirrors=options.mirror,
            replacement=os.environ.get(MIRROR_VARIABLE, ""),
            say=lambda text: print_text(text, flush=True),
        )
    except KeyboardInterrupt:
        raise Stopped("interrupted; the same command goes on where it was") from None
    print_text(f"{source.name} is complete in {root}")


def _add_list(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = actions.add_parser("list", help="the datasets that `get` knows, and which are there")
    parser.add_argument("--size", type=int, default=28, help="of MedMNIST, in pixels; default: 28")
    parser.set_defaults(command=_list)


def _list(options: argparse.Namespace) -> None:
    from tlcnn.data.obtain import find_state
    from tlcnn.data.sources import DRAWN, check_size, list_sources

    check_size("breastmnist", options.size)
    rows = [["name", "there", "size", "folder", "licence", "what"]]
    for source in list_sources(options.size):
        state = find_state(source, Path(source.root))
        licence = source.licence.partition(";")[0].partition(" (")[0]
        rows.append([source.name, state, source.size, source.root, licence, source.what])
    there = "yes" if Path("data/lc25000_lung").is_dir() else "no"
    what = "lung tiles, 3 classes; by hand: tlcnn data get lc25000_lung says how"
    rows.append(["lc25000_lung", there, "1.9 GB", "data/lc25000_lung", "see its page", what])
    rows += [[name, "yes", "-", "-", "-", "drawn, nothing to download"] for name in DRAWN]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print_text("  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip())
