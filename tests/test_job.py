"""What becomes of a run's errors: a code, a kind for programs, and words for people."""

import pytest
from hydra.errors import HydraException

from tlcnn.errors import ConfigError, Diverged
from tlcnn.run.job import DEVICE_FAILURE, UNEXPECTED, Job, Outcome, watch_errors


class AcceleratorError(RuntimeError):
    """Named as torch's, which is raised when a GPU has failed."""


def end_with(error):
    with watch_errors() as watched:
        raise error
    return watched.outcome


def test_work_without_an_error_is_done():
    with watch_errors() as watched:
        pass
    assert watched.outcome == Outcome()


def test_an_error_is_a_code_a_kind_and_its_first_line():
    outcome = end_with(Diverged("the loss is nan\nLower train.lr"))
    assert outcome == Outcome(3, "Diverged: the loss is nan", "Diverged")
    assert end_with(ValueError()) == Outcome(UNEXPECTED, "ValueError: no message", "ValueError")


def test_a_failed_device_is_known_by_the_error_that_caused_another():
    error = ConfigError("this network cannot take images of 32 px")
    error.__cause__ = AcceleratorError("an illegal memory access")
    assert end_with(error).kind == DEVICE_FAILURE
    assert end_with(ConfigError("freeze=CUDA is not an option")).kind == "ConfigError"


def test_errors_of_hydra_are_raised():
    with pytest.raises(HydraException):
        end_with(HydraException("x"))


def test_a_job_arrives_as_it_was_sent():
    job = Job(("seed=0", "study='a, b'"), 2, (1, 3), {"progress": False})
    assert Job.from_json(job.to_json()) == job
    assert "\n" not in job.to_json()
