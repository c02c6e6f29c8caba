"""The commands that look at models and images."""

import argparse
import os
import subprocess
import sys

import pytest
from PIL import Image

from tlcnn.cli.main import main, make_parser


def test_units_are_printed(cache_dir, monkeypatch, capsys):
    monkeypatch.setenv("TLCNN_CACHE", str(cache_dir))
    main(["units", "test_resnet"])
    shown = capsys.readouterr().out
    assert "stem" in shown and "layer3" in shown


def list_parsers(parser, name="tlcnn"):
    """Return every command with its parser."""
    parsers = [(name, parser)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, each in action.choices.items():
                parsers += list_parsers(each, f"{name} {word}")
    return parsers


def test_help_can_be_shown_on_every_console():
    """Argparse itself writes it, and fails where the console lacks a character."""
    parsers = list_parsers(make_parser())
    assert len(parsers) > 15
    assert [name for name, parser in parsers if not parser.format_help().isascii()] == []


def test_a_contact_sheet_is_drawn(tmp_path, capsys):
    path = tmp_path / "sheet.png"
    words = ["dataset=synthetic", "dataset.options.n_images=140", "dataset.image_size=32"]
    main(["show", *words, "-o", str(path), "--columns", "2"])
    with Image.open(path) as sheet:
        assert sheet.height == 7 * 114 and sheet.width == 64 + 2 * 114
        assert len(sheet.getcolors(2**24)) > 1000


@pytest.mark.parametrize("options", ["{}", "{group_regex: '^(p.)_'}"])
def test_a_contact_sheet_warns_where_every_image_is_a_group(tmp_path, capsys, options):
    for name in ("a/p1_1", "a/p1_2", "b/p2_1", "b/p3_1"):
        place = tmp_path / f"{name}.png"
        place.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(place)
    words = ["dataset=folder", f"dataset.root={tmp_path}", f"dataset.options={options}"]
    main(["show", *words, "-o", str(tmp_path / "sheet.png"), "--columns", "1"])
    shown = capsys.readouterr()
    warning = "every image is taken as its own group"
    assert (warning in shown.err) == (options == "{}") and "wrote" in shown.out


def test_train_gets_its_words_as_they_are(monkeypatch):
    words = []
    monkeypatch.setattr("tlcnn.train.main", lambda given: words.extend(given) or 75)
    monkeypatch.setattr(sys, "argv", [sys.argv[0]])
    with pytest.raises(SystemExit) as exit_:
        main(["train", "-m", "seed=0,1", "--help"])
    assert words == ["-m", "seed=0,1", "--help"] and exit_.value.code == 75


def test_the_package_is_the_command():
    command = [sys.executable, "-m", "tlcnn", "--version"]
    assert subprocess.run(command, capture_output=True, text=True).stdout.startswith("tlcnn 0.")


@pytest.mark.parametrize(
    ("line", "expected"),
    [("tlcnn st", "status "), ("tlcnn train model=resnet1", "model=resnet10t model=resnet18")],
)
def test_words_are_completed(tmp_path, line, expected):
    pytest.importorskip("argcomplete")
    settings = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": " ", "COMP_LINE": line}
    settings |= {"COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": "words"}
    command = [sys.executable, "-m", "tlcnn"]
    subprocess.run(command, env=os.environ | settings, cwd=tmp_path)
    assert (tmp_path / "words").read_text() == expected


@pytest.mark.parametrize(("word", "meant"), [("analyze", "analyse"), ("reports", "report")])
def test_a_mistyped_command_is_answered_with_the_nearest(word, meant, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([word, "outputs"])
    message = capsys.readouterr().err
    assert exit_.value.code == 2 and f"no command '{word}'. Did you mean '{meant}'?" in message
    assert "Commands: train, compare, report" in message
