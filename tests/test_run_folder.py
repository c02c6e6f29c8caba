"""The folder of a run: what it finished is checked when it is read, and links lead nowhere."""

import hashlib
import json
import os
import shutil

import pytest
import torch
from runs import tiny_config

from tlcnn.errors import CannotCreate, DataError, StorageError, WeightsError
from tlcnn.memory import Memory
from tlcnn.plan.plan import make_plan
from tlcnn.records.files import read_bytes
from tlcnn.records.folder import RunDir
from tlcnn.run.network import build_initial_network
from tlcnn.run.run import run
from tlcnn.storage import read_regular_file


@pytest.fixture
def plan_of(tmp_path, cache_dir):
    torch.set_num_threads(1)
    output = tmp_path / "outputs"
    return lambda *words: make_plan(tiny_config(output, cache_dir, "train.epochs=1", *words))


def test_done_records_what_the_run_wrote_and_a_changed_parent_is_refused(plan_of):
    parent = plan_of()
    run(parent)
    weights = parent.run_dir / "weights.safetensors"
    record = json.loads((parent.run_dir / "DONE").read_text())
    files = {path.name for path in parent.run_dir.iterdir()}
    assert set(record["sha256"]) == files - {"DONE", "lock", "log.txt"}
    for name in record["sha256"]:
        path = parent.run_dir / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(DataError, match=f"{name} is not what the run wrote"):
            read_bytes(path)
        path.write_bytes(content)
    assert record["sha256"][weights.name] == hashlib.sha256(weights.read_bytes()).hexdigest()
    words = ["init=run", f"init.run={parent.run_id}", "seed=1"]
    assert build_initial_network(plan_of(*words), Memory())
    content = weights.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) * 2 // 3] ^= 1
    start = 8 + int.from_bytes(content[:8], "little")
    zeroed = content[:start] + bytes(len(content) - start)
    for changed in (bytes(flipped), zeroed):
        weights.write_bytes(changed)
        with pytest.raises(WeightsError, match="weights.safetensors has changed.*train"):
            run(plan_of(*words))
    assert not plan_of(*words).run_dir.exists()


def test_a_file_that_changes_between_plan_and_training_is_refused(plan_of, tmp_path):
    from safetensors.torch import save_file

    from tlcnn.model.build import build_model

    path = tmp_path / "mine.safetensors"
    save_file(build_model("test_resnet", n_classes=3, seed=0).state_dict(), path)
    plan = plan_of("init=checkpoint", f"init.weights={path}")
    save_file(build_model("test_resnet", n_classes=3, seed=1).state_dict(), path)
    with pytest.raises(WeightsError, match=r"mine\.safetensors has changed"):
        run(plan)


LINKED = ["log.txt", ".checkpoint.last.pt.tmp", "plan.json", "holder.json", "environment.json"]


@pytest.mark.parametrize("name", [*LINKED, "metrics.jsonl", "FAILED", "DONE.tmp"])
def test_nothing_is_written_through_a_link_in_a_run_folder(plan_of, tmp_path, name):
    plan = plan_of("checkpoint_every_s=0", "dataset.options.n_images=60")
    outside = tmp_path / "thesis.tex"
    outside.write_text("{}")
    plan.run_dir.mkdir(parents=True)
    (plan.run_dir / name).symlink_to(outside)
    run(plan)
    assert outside.read_text() == "{}"
    assert (plan.run_dir / "log.txt").is_file() and not (plan.run_dir / "log.txt").is_symlink()


def test_a_lock_that_is_a_link_is_refused_and_its_target_kept(plan_of, tmp_path):
    plan = plan_of()
    outside = tmp_path / "thesis.tex"
    outside.write_text("years of work")
    plan.run_dir.mkdir(parents=True)
    (plan.run_dir / "lock").symlink_to(outside)
    with pytest.raises(StorageError, match="it is a link"):
        run(plan)
    assert outside.read_text() == "years of work"


def test_a_run_folder_that_is_a_link_is_read_but_not_written(plan_of, tmp_path):
    plan = plan_of("dataset.options.n_images=60")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "checkpoint.last.pt").write_text("somebody's")
    plan.run_dir.parent.mkdir(parents=True)
    plan.run_dir.symlink_to(elsewhere)
    with pytest.raises(CannotCreate, match="is a link to .*link the whole output_dir"):
        run(plan)
    assert os.listdir(elsewhere) == ["checkpoint.last.pt"]
    plan.run_dir.unlink()
    run(plan)
    shutil.move(plan.run_dir, elsewhere / "done")
    plan.run_dir.symlink_to(elsewhere / "done")
    (elsewhere / "done" / "checkpoint.last.pt").write_text("somebody's")
    assert run(plan)["metrics"]  # finished: nothing is trained and nothing is deleted
    assert (elsewhere / "done" / "checkpoint.last.pt").exists()


def test_an_output_dir_that_is_a_link_is_written_as_users_expect(plan_of, tmp_path):
    plan = plan_of("dataset.options.n_images=60")
    (tmp_path / "scratch").mkdir()
    plan.output_dir.symlink_to(tmp_path / "scratch")
    run(plan)
    assert len(list((tmp_path / "scratch" / "runs").glob("*/DONE"))) == 1


def test_a_pipe_and_a_folder_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(OSError, match="no regular file|Is a directory"):
            read_regular_file(tmp_path / name)
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular_file(tmp_path / "file", max_bytes=5) == b"12345"
    with pytest.raises(OSError, match="at most"):
        read_regular_file(tmp_path / "file", max_bytes=4)


def test_a_damaged_holder_is_another_process(tmp_path):
    for text in ("", "[]", '{"pid": 1}'):
        (tmp_path / "holder.json").write_text(text)
        assert RunDir(tmp_path).describe_holder() == "another process"
