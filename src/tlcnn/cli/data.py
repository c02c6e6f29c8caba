"""`tlcnn data get | list | audit`: download, list and audit datasets."""

import argparse
import os
from pathlib import Path

from tlcnn.cli.audit import add_audit
from tlcnn.errors import Stopped
from tlcnn.text import align_columns, print_text

MIRROR_VARIABLE = "TLCNN_MIRROR"


def add_data(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `data` and its own commands to the parser of `tlcnn`."""
    parser = commands.add_parser("data", help="download, list and audit datasets")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    get = actions.add_parser(
        "get",
        help="download and verify a dataset; repeat it to continue",
        epilog=f"{MIRROR_VARIABLE}=URL_PREFIX in the environment replaces the scheme and host of "
        "every source, for example by a laboratory's own copy",
    )
    get.add_argument("name", metavar="NAME", help="as in: tlcnn data list")
    get.add_argument("--route", help="the publisher: isic (default) or dataverse for ham10000")
    get.add_argument(
        "--size", type=int, help="size of the MedMNIST images in pixels: 28, 64, 128 or 224"
    )
    get.add_argument("--root", type=Path, metavar="DIR", help="default: see tlcnn data list")
    get.add_argument(
        "--mirror",
        nargs="+",
        action="extend",
        default=[],
        metavar="URL_PREFIX",
        help="addresses of mirrors, tried first, in this order",
    )
    get.set_defaults(command=_get)
    listing = actions.add_parser(
        "list", help="list the datasets that `get` can download, and those on disk"
    )
    listing.add_argument(
        "--size", type=int, default=28, help="size of the MedMNIST images in pixels; default: 28"
    )
    listing.set_defaults(command=_list)
    add_audit(actions)


def _get(options: argparse.Namespace) -> None:
    from tlcnn.data.obtain import obtain
    from tlcnn.data.sources import DRAWN, find_route, find_source

    if options.name in DRAWN:
        print_text(f"{options.name} is drawn, not downloaded: nothing to do")
        return
    source = find_source(options.name, options.size)
    print_text(f"{source.name}: {source.what}\nlicence: {source.licence}")
    try:
        obtain(
            source,
            find_route(source, options.route),
            options.root or Path(source.root),
            mirrors=options.mirror,
            replacement=os.environ.get(MIRROR_VARIABLE, ""),
            say=lambda text: print_text(text, flush=True),
        )
    except KeyboardInterrupt:
        raise Stopped("interrupted; repeat the command to continue") from None


def _list(options: argparse.Namespace) -> None:
    from tlcnn.data.obtain import find_state
    from tlcnn.data.sources import DRAWN, check_size, list_sources

    check_size("breastmnist", options.size)
    rows = [["name", "there", "size", "folder", "licence", "what"]]
    for source in list_sources(options.size):
        state = find_state(source, Path(source.root))
        licence = source.licence.partition(";")[0].partition(" (")[0]
        rows.append([source.name, state, source.size, source.root, licence, source.what])
    rows += [[name, "yes", "-", "-", "-", "drawn, nothing to download"] for name in DRAWN]
    print_text("\n".join(align_columns(rows)))
