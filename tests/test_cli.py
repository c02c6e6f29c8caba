"""The commands that look at models and images."""

from PIL import Image

from tlcnn.cli.main import main


def test_units_are_printed(cache_dir, monkeypatch, capsys):
    monkeypatch.setenv("TLCNN_CACHE", str(cache_dir))
    main(["units", "test_resnet"])
    shown = capsys.readouterr().out
    assert "stem" in shown and "layer3" in shown


def test_a_contact_sheet_is_drawn(tmp_path, capsys):
    path = tmp_path / "sheet.png"
    words = ["dataset=synthetic", "dataset.options.n_images=140", "dataset.image_size=32"]
    main(["show", *words, "-o", str(path), "--columns", "2"])
    with Image.open(path) as sheet:
        assert sheet.height == 7 * 114 and sheet.width == 64 + 2 * 114
        assert len(sheet.getcolors(2**24)) > 1000
