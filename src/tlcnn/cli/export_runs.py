"""`tlcnn export-runs`: finished runs in the trackers of experiments."""

import argparse
from pathlib import Path

from tlcnn.cli.compare import LISTS
from tlcnn.text import count, print_text

NAMES = ("csv", "tensorboard", "mlflow", "wandb")
_LOOK = {
    "csv": "wrote {output}/runs.csv and {output}/epochs.csv",
    "tensorboard": "look at it: tensorboard --logdir {output}/{project}",
    "mlflow": "look at it: mlflow ui --backend-store-uri {uri}",
    "wandb": "upload it: wandb sync {output}/wandb/offline-run-*",
}


def add_export_runs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "export-runs",
        help="finished runs for TensorBoard, MLflow, Weights & Biases, or as CSV tables",
        description="Writes settings, tags, curves and final metrics of finished runs, from their "
        "records. The command can be repeated: only what is new or has changed is written.",
    )
    add = parser.add_argument
    add("folders", nargs="*", default=["outputs"], metavar="FOLDER", help="default: outputs")
    add("--to", required=True, choices=NAMES, help="the tracker")
    output = "a folder, by default exported/TRACKER; for mlflow also a tracking URI"
    add("-o", "--output", metavar="PLACE", help=output)
    project = "the project, or the experiment of MLflow; default: tlcnn"
    add("--project", default="tlcnn", help=project)
    metavar, text = LISTS["where"]
    add("--where", nargs="+", action="extend", default=[], metavar=metavar, help=text)
    parser.set_defaults(command=_export_runs)


def _export_runs(options: argparse.Namespace) -> None:
    from tlcnn.records.left_out import describe_left_out
    from tlcnn.records.read import read_runs
    from tlcnn.study.select import apply_where
    from tlcnn.trackers import TRACKERS
    from tlcnn.trackers.mlflow_store import make_uri
    from tlcnn.trackers.tracked_run import make_tracked_runs

    output = options.output or str(Path("exported") / options.to)
    runs = apply_where(read_runs(*options.folders), options.where)
    tracked = make_tracked_runs(runs)
    n_new = sum(TRACKERS[options.to](tracked, output, options.project)) if tracked else 0
    for line in describe_left_out(runs):
        print_text(line)
    unfinished = runs[runs["state"].isin(("running", "stopped", "failed", "pruned"))]
    for row in unfinished.itertuples():
        print_text(f"  {row.state:8} {Path(str(row.folder)).name}")
    there = f", {len(tracked) - n_new} were there" if n_new < len(tracked) else ""
    print_text(f"{count(n_new, 'run')} written{there}")
    if tracked:
        uri = make_uri(output) if options.to == "mlflow" else ""
        look = _LOOK[options.to].format(output=output, project=options.project, uri=uri)
        print_text(look)
