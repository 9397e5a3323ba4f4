"""Which of how many processes a launcher started: what its variables say, and what they cannot mean."""

from __future__ import annotations

import pytest
import torch

from emozoo import launch
from emozoo.errors import UsageError


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher: none of the variables that one sets."""
    for name in (*launch._HINTS, "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_JOB_NAME", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def say(monkeypatch: pytest.MonkeyPatch, **variables: object) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


def test_an_interactive_job_of_slurm_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects `srun --pty bash`: what is typed there does not wait for processes that nobody started."""
    assert launch.launched() == (0, 1)
    say(monkeypatch, SLURM_NTASKS=2, SLURM_PROCID=1, SLURM_STEP_ID=0, SLURM_JOB_NAME="emozoo")
    assert launch.launched() == (1, 2)
    say(monkeypatch, SLURM_JOB_NAME="bash")
    assert launch.launched() == (0, 1)


@pytest.mark.parametrize("step", [None, "4294967291", "4294967290"])  # batch script, and salloc's shell
def test_a_batch_script_without_srun_is_one_process(monkeypatch: pytest.MonkeyPatch, step: str | None) -> None:
    """Protects jobs whose script forgot `srun`: the one process that there is does all, and a line names `srun`."""
    say(monkeypatch, SLURM_JOB_ID=3, SLURM_NTASKS=4, SLURM_PROCID=0, SLURM_LOCALID=0, SLURM_JOB_NAME="night")
    if step is not None:
        say(monkeypatch, SLURM_STEP_ID=step)
    assert launch.launched() == (0, 1)
    assert launch.environment() is None
    assert "4 tasks" in (launch.unshared() or "")
    assert "srun emozoo" in (launch.unshared() or "")
    say(monkeypatch, SLURM_STEP_ID=0)
    assert launch.launched() == (0, 4)
    assert launch.unshared() is None


@pytest.mark.parametrize("name", ["bash", "emozoo"])
def test_a_job_for_one_process_is_nothing_to_speak_of(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Protects from idle notes: one task, and a shell in which somebody types."""
    say(monkeypatch, SLURM_JOB_ID=3, SLURM_NTASKS=4 if name == "bash" else 1, SLURM_PROCID=0, SLURM_JOB_NAME=name)
    assert launch.unshared() is None


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RANK": 5, "WORLD_SIZE": 2}, "RANK=5, WORLD_SIZE=2: "),
        ({"RANK": -1, "WORLD_SIZE": 2}, "RANK=-1, WORLD_SIZE=2: "),
        ({"RANK": 0, "WORLD_SIZE": 0}, "RANK=0, WORLD_SIZE=0: "),
        ({"RANK": 0, "WORLD_SIZE": "abc"}, "RANK=0, WORLD_SIZE=abc: "),
        ({"RANK": "", "WORLD_SIZE": ""}, "RANK=, WORLD_SIZE=: "),
        ({"TORCHELASTIC_RUN_ID": 1, "RANK": 2}, "RANK=2, WORLD_SIZE is not set: "),
        ({"SLURM_STEP_ID": 0, "SLURM_NTASKS": 4}, "SLURM_PROCID is not set, SLURM_NTASKS=4: "),
        ({"SLURM_STEP_ID": 0, "SLURM_NTASKS": 4, "SLURM_PROCID": 4}, "SLURM_PROCID=4, SLURM_NTASKS=4: "),
    ],
)
def test_impossible_ranks_are_refused(monkeypatch: pytest.MonkeyPatch, variables: dict, said: str) -> None:
    """Protects from a success that did nothing: a process that cannot be one of so many ends in a line that names
    the variables."""
    say(monkeypatch, **variables)
    with pytest.raises(UsageError) as error:
        launch.launched()
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects machines with several GPUs: `--device cuda` is another one for each process, not the first for all."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert launch.own_device("cuda") == "cuda"
    say(monkeypatch, SLURM_STEP_ID=0, SLURM_NTASKS=16, SLURM_PROCID=9)
    with pytest.raises(UsageError, match="SLURM_LOCALID is not set: "):
        launch.own_device("cuda")
    say(monkeypatch, SLURM_LOCALID=1)
    assert [launch.own_device(name) for name in ("cuda", "cuda:3", "cpu")] == ["cuda:1", "cuda:3", "cpu"]
