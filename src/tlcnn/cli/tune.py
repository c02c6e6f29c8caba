"""`tlcnn tune`: search settings of training, with the same budget for every arm."""

import argparse
import sys

from tlcnn.errors import ConfigError
from tlcnn.sweep.options import METHODS, PRUNERS

_TEXT = """\
Search settings of training, with the same budget for every arm.

The words are those of a sweep. Lists of values make arms, each of which is searched alone:
    init=imagenet,random freeze.through=none,layer2 train.schedule=together,head_first
Ranges of settings of training are searched:
    'train.lr=tag(log, interval(1e-5,1e-2))' 'train.mixup=choice(0,0.2)'

A trial is an ordinary run with one seed, judged by its best epoch on validation. At the end, the
best settings of each arm are trained again with fresh seeds. These final runs alone are compared
by `tlcnn compare` and `tlcnn report`.

The same command again goes on where it was stopped, and trains nothing twice. With more --trials
it extends the search.
"""
_EXAMPLE = """\
example, offline, a few minutes:
    tlcnn tune dataset=synthetic model=resnet10t train=demo init=random output_dir=outputs/tune \\
        'train.lr=tag(log, interval(1e-4,1e-2))' --trials 6 --final-seeds 2
"""
_OPTIONS = ("method", "trials", "prune", "final_seeds", "batch", "seed")


def add_tune(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "tune",
        help="search settings of training, with the same budget for every arm",
        description=_TEXT,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("words", nargs="+", metavar="WORD", help="words of a sweep, and ranges")
    add("--trials", type=int, metavar="N", help="trials of each arm; a grid has all its points")
    method = f"{', '.join(METHODS)}; default: random. tpe and gp need tlcnn[tune]"
    add("--method", help=method)
    prune = f"{', '.join(PRUNERS)}: give up trials after few epochs that are below the median, or"
    add("--prune", help=f"{prune} not among the best third; default: none")
    add("--final-seeds", type=int, metavar="N", help="final runs of each arm; default: 3")
    add("--batch", type=int, metavar="N", help="trials of an arm proposed at a time; default: 4")
    add("--search-seed", dest="seed", type=int, metavar="N", help="of the proposals; default: 0")
    when = (
        "search KEY only where another key has a value: --when train.momentum train.optimizer=sgd"
    )
    add("--when", nargs=2, action="append", default=[], metavar=("KEY", "KEY=VALUE"), help=when)
    add("-cd", "--config-dir", metavar="DIR", help="a folder with YAML files of your own")
    parser.set_defaults(command=_tune)


def _tune(options: argparse.Namespace) -> None:
    from tlcnn.config.compose import write_override
    from tlcnn.train import main

    flags = [word for word in options.words if "=" not in word]
    if flags:
        raise ConfigError(f"{flags[0]} sets nothing: write KEY=VALUE, such as init=imagenet")
    prefix = "hydra.sweeper.search"
    values = {name: getattr(options, name) for name in _OPTIONS}
    may_name_method = any(word.lstrip("+").startswith("experiment=") for word in options.words)
    if values["method"] is None and not may_name_method:
        values["method"] = "random"
    overrides = [f"{prefix}.{key}={value}" for key, value in values.items() if value is not None]
    if options.when:
        pairs = (write_override(key, text).replace("=", ": ", 1) for key, text in options.when)
        overrides.append(f"++{prefix}.when={{{', '.join(pairs)}}}")
    folder = [f"--config-dir={options.config_dir}"] if options.config_dir else []
    sys.exit(main(["-m", *folder, *options.words, *overrides]))
