"""What becomes of a run's errors: a code, a kind for programs, and words for people."""

from hydra.errors import HydraException

from tlcnn.errors import ConfigError, Diverged
from tlcnn.run.job import DEVICE_FAILURE, UNEXPECTED, Job, Outcome, explain_failure


class AcceleratorError(RuntimeError):
    """Named as torch's, which is raised when a GPU has failed."""


def test_an_error_is_a_code_a_kind_and_its_first_line():
    outcome = explain_failure(Diverged("the loss is nan\nLower train.lr"))
    assert outcome == Outcome(3, "Diverged: the loss is nan", "Diverged")
    assert explain_failure(ValueError()) == Outcome(
        UNEXPECTED, "ValueError: no message", "ValueError"
    )


def test_a_failed_device_is_known_by_the_error_that_caused_another():
    error = ConfigError("this network cannot take images of 32 px")
    error.__cause__ = AcceleratorError("an illegal memory access")
    assert explain_failure(error).kind == DEVICE_FAILURE
    assert explain_failure(ConfigError("freeze=CUDA is not an option")).kind == "ConfigError"


def test_an_error_of_hydra_is_a_wrong_configuration():
    outcome = explain_failure(HydraException("x\n    object_type=Config"))
    assert outcome == Outcome(ConfigError.exit_code, "ConfigError: x", "ConfigError")


def test_a_job_arrives_as_it_was_sent():
    job = Job(("seed=0", "study='a, b'"), 2, (1, 3), {"progress": False})
    assert Job.from_json(job.to_json()) == job
    assert "\n" not in job.to_json()
