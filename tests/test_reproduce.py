"""The command of a run: its cell's words in a sweep, its own words else."""

import json
import shlex

from records_made import write_record

from tlcnn.config.schema import list_keys
from tlcnn.report.reproduce import find_commands


def write_study(folder, run_id, words, **record):
    (folder / "studies").mkdir(exist_ok=True)
    run = {"run_id": run_id, "run_name": "x", "overrides": words}
    (folder / "studies" / "s.json").write_text(json.dumps({"version": 1, "runs": [run], **record}))


def test_a_run_of_a_sweep_has_the_words_of_its_cell(tmp_path):
    run = write_record(tmp_path, seed=1, test=0.5)
    run_id = run.name.rsplit("-", 1)[-1]
    write_study(tmp_path, run_id, ["seed=1", "init=imagenet", "output_dir=/mine"])
    assert find_commands([run]) == {str(run): "python -m tlcnn.train seed=1 init=imagenet"}


def test_a_command_has_no_place_but_that_of_the_images_and_no_dry_run_but_permissions(tmp_path):
    run = write_record(tmp_path, seed=1, test=0.5)
    places = [f"{key}=1" for key in list_keys("place") if key != "dataset.root"]
    places += ["++init.task_run.threads=1", "study=mine", "fail_fast=true", "dry_run=false"]
    words = [
        "dataset.root=/mine",
        "++init.task_dataset.root=/data",
        "freeze.allow_random=true",
        "init.allow_unchecked=true",
        "dataset.name=lesions",
    ]
    write_study(tmp_path, run.name.rsplit("-", 1)[-1], [*places, *words])
    assert find_commands([run])[str(run)].split()[3:] == words


def test_a_run_of_an_experiment_is_repeated_alone(tmp_path):
    run = write_record(tmp_path, seed=1, test=0.5)
    write_study(tmp_path, run.name.rsplit("-", 1)[-1], ["experiment=grid", "seed=1"])
    assert "hydra.mode=RUN" in find_commands([run])[str(run)]


def test_a_command_has_the_folder_of_the_users_own_studies(tmp_path):
    run = write_record(tmp_path, seed=1, test=0.5)
    flag, words = "--config-dir=/mine/conf", ["experiment=mine", "seed=1"]
    write_study(tmp_path, run.name.rsplit("-", 1)[-1], words, flags=[flag])
    command = find_commands([run])[str(run)].split()
    assert command[3:] == [flag, "hydra.mode=RUN", *words]


def test_a_single_run_has_its_own_words_quoted_for_a_shell(tmp_path):
    run = write_record(tmp_path, seed=1, test=0.5)
    word = "dataset.root=my $(rm) folder"
    session = {"command": shlex.join(["train.py", word])}
    (run / "environment.json").write_text(json.dumps({"sessions": [session]}))
    command = find_commands([run])[str(run)]
    assert shlex.split(command) == ["python", "-m", "tlcnn.train", word]


def test_a_run_that_nobody_trained_here_has_no_command(tmp_path):
    assert find_commands([write_record(tmp_path, seed=1, test=0.5)]) == {}
