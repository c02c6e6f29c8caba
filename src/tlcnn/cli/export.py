"""`tlcnn export`: a trained network as files for other programs, with a model card."""

import argparse
from pathlib import Path

from tlcnn.text import print_text


def add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "export",
        help="a trained network for timm, TorchScript, torch.export or ONNX, with a model card",
        description="Writes a finished run's network with its preprocessing and a model card. The "
        "logits of every file are compared with those that the run recorded.",
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run folder")
    add("-o", "--output", type=Path, help="a folder; default: exported/NAME_OF_THE_RUN")
    formats = "timm (default), torchscript, torch.export, onnx; several words give several files"
    add("--to", nargs="+", action="extend", metavar="FORMAT", help=formats)
    add("--root", help="the folder of the run's images, where they have moved")
    parser.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> None:
    from tlcnn.inference.export import export_network
    from tlcnn.inference.network import load
    from tlcnn.records.read import read_runs
    from tlcnn.report.card import describe_rounding, write_card
    from tlcnn.storage import write_atomic

    network = load(options.run, device="cpu", root=options.root)
    folder = options.output or Path("exported") / network.run.folder.name
    checks = export_network(network, folder, list(dict.fromkeys(options.to or ["timm"])))
    write_atomic(folder / "README.md", write_card(read_runs(network.run.folder), checks))
    for check in checks.values():
        text = f"differs by {check.difference:.1e} of the largest logit from the network"
        if check.recorded_difference is not None:
            text += (
                f" and by {check.recorded_difference:.1e} from the run's record; the same class "
                f"for {check.n_same_class} of {check.n_images} test images"
            )
        print_text(f"{check.file}: {text}")
    if rounding := describe_rounding(network.record.precision, checks):
        print_text(rounding)
    print_text(f"wrote {folder}")
