"""C's layouts, the policies of the first round, and jobs and launchers of ranks."""

import dataclasses
import sys
import types
from contextlib import nullcontext

import numpy as np
import pytest
from small_run import new_run

from controller.policy import Controller
from world_models import mpi, tasks
from world_models.config import UserError
from world_models.jobs import Jobs
from world_models.stages import recording
from world_models.tasks import carracing

CAR = Controller(tasks.get("carracing"), "z", 2, 0)


@pytest.mark.parametrize(
    ("task", "features", "parameters"),
    [
        ("carracing", "zh", 867),
        ("carracing", "z", 99),
        ("carracing", "z_hidden", 1443),
        ("carracing", "zc", 867),
        ("carracing", "zch", 1635),
        ("doom", "zch", 1088),
        ("doom", "zh", 576),
        ("doom", "zc", 576),
        ("doom", "z", 64),
    ],
)
def test_parameters_are_as_many_as_published(task, features, parameters):
    config = tasks.preset(task, "paper")
    controller = Controller(tasks.get(task), features, config.z_size, config.rnn_units)
    assert controller.num_params == parameters


def test_carracing_layout_biases_then_rows_of_weights():
    """Two features, three actions: each number worked out by hand."""
    params = np.array([[0.1, 0.2, 0.3, 1, 2, 3, 4, 5, 6]])  # b, then W's rows for feature 0 and 1
    x = np.array([[0.5, -0.25]])
    raw = np.tanh([0.1 + 0.5 * 1 - 0.25 * 4, 0.2 + 0.5 * 2 - 0.25 * 5, 0.3 + 0.5 * 3 - 0.25 * 6])
    expected = [raw[0], (raw[1] + 1) / 2, min(max(raw[2], 0), 1)]
    np.testing.assert_allclose(CAR.act(params, x, None, None)[0], expected)


def test_doom_sees_cell_before_hidden_and_has_no_bias():
    z, c, h = np.array([[1.0]]), np.array([[2.0]]), np.array([[3.0]])
    params = np.array([[0.1, 0.02, 0.003]])
    controller = Controller(tasks.get("doom"), "zch", 1, 1)
    np.testing.assert_allclose(controller.act(params, z, c, h)[0], np.tanh([0.1 + 0.04 + 0.009]))


def test_hidden_layer_by_hand():
    """carracing/model.py: hidden biases, hidden weights, output biases, output weights."""
    rng = np.random.default_rng(0)
    hidden_b, hidden_w = rng.normal(size=40), rng.normal(size=(2, 40))
    out_b, out_w = rng.normal(size=3), rng.normal(size=(40, 3))
    params = np.concatenate([hidden_b, hidden_w.ravel(), out_b, out_w.ravel()])[None]
    x = rng.normal(size=(1, 2))
    raw = np.tanh(np.tanh(x @ hidden_w + hidden_b) @ out_w + out_b)
    found = dataclasses.replace(CAR, features="z_hidden").act(params, x, None, None)
    np.testing.assert_allclose(found, carracing.squash(raw))


def test_noise_is_added_before_the_outputs_are_squashed():
    doom = Controller(tasks.get("doom"), "z", 1, 1)
    found = doom.act(np.full((2, 1), 0.5), np.ones((2, 1)), None, None, push=np.array([[0.1], [4.0]]))
    np.testing.assert_allclose(found, [[np.tanh(0.5) + 0.1], [1.0]])


def test_random_drivers_do_what_the_release_did():
    """Their steering is noise about a constant; over many drivers it favours no side."""
    steer = [carracing.RandomDriver(np.random.default_rng(k)).act(0)[0] for k in range(400)]
    assert abs(np.mean(steer)) < 0.03 and 0.01 < np.std(steer) < 0.5
    # Cauchy weights: a sum of 32 is as wide as 32 of them in a row, where 32 normal ones would be as sqrt(32).
    assert 0.05 < np.median(np.abs(steer)) < 0.2


def test_dooms_smooth_policy_reaches_further():
    def reach(name: str) -> float:
        rng = np.random.default_rng(0)
        walks = []
        for _ in range(50):
            player = tasks.get("doom").policies[name](rng)
            moves = np.array([player.act(frame)[0] for frame in range(300)])
            walks.append(np.cumsum((moves > 1 / 3).astype(int) - (moves < -1 / 3)))
        return float(np.std(walks))

    assert reach("smooth") > 2 * reach("release")


@pytest.mark.parametrize(
    ("variables", "sees", "said"),
    [
        ({}, 1, ""),
        ({"PMI_SIZE": "4"}, 4, ""),
        ({"PMI_SIZE": "4"}, 1, "each sees 1: .*MPI4PY_MPIABI=mpich mpirun ..., or set WORLD_MODELS_RANKS=1"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, 1, "each sees 1: .*MPI4PY_MPIABI=openmpi mpirun"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, 1, "each sees 1: .*srun --mpi=pmi2"),  # plain `srun -n 2`
        ({"SLURM_STEP_NUM_TASKS": "1", "PMI_SIZE": "2"}, 2, ""),  # the wheel's mpirun in a job
        ({"SLURM_STEP_NUM_TASKS": "2", "WORLD_MODELS_RANKS": "1"}, 1, ""),  # runs side by side
        ({"WORLD_MODELS_RANKS": "8"}, 4, "each sees 4: .*; set WORLD_MODELS_RANKS=4"),
        ({"WORLD_MODELS_RANKS": "two"}, 1, "WORLD_MODELS_RANKS: expected a number of ranks, got 'two'"),
    ],
)
def test_a_launcher_of_another_mpi_is_refused(monkeypatch, variables, sees, said):
    monkeypatch.setattr(mpi.os, "environ", variables)
    with pytest.raises(UserError, match=said) if said else nullcontext():
        mpi.require_same_mpi(Desk(sees))


def test_the_launchers_mpi_is_loaded(monkeypatch):
    """Another MPI would end the process, or take each process for the only one."""
    monkeypatch.setitem(sys.modules, "mpi4py", types.SimpleNamespace(MPI=types.SimpleNamespace(COMM_WORLD="world")))
    for given, expected in (
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "openmpi"),
        ({"OMPI_COMM_WORLD_SIZE": "4", "MPI4PY_MPIABI": "mpich"}, "mpich"),
        ({"PMI_SIZE": "4"}, None),
    ):
        variables = dict(given)
        monkeypatch.setattr(mpi.os, "environ", variables)
        assert mpi.world() == "world" and variables.get("MPI4PY_MPIABI") == expected


class Desk:
    """A communicator's end for tests of `Jobs`: the other ranks' requests, and what they were given."""

    rank = 0

    def __init__(self, size: int):
        self.size, self.asked, self.given = size, [], []

    def iprobe(self, tag, status) -> bool:
        return bool(self.asked)

    def recv(self, source, tag) -> int:
        return self.asked.pop()

    def send(self, jobs, dest, tag) -> None:
        self.given.append(jobs)


def test_jobs_are_shared_evenly_and_each_is_given_once():
    desk = Desk(2)
    jobs = Jobs(desk, 100)
    mine = list(jobs.take(80, wait=True))
    assert len(mine) == 50  # as many as it has room for, but no more than an even share
    while not jobs.over:
        desk.asked.append(8)
        mine += jobs.take(8, wait=True)
    desk.asked.append(8)
    jobs.serve()
    theirs = [job for given in desk.given for job in given]
    assert sorted(mine + theirs) == list(range(100))
    assert len(theirs) >= 20


def test_recording_rejects_a_minimum_length_that_no_episode_can_have(tmp_path):
    run = new_run(tmp_path / "run", "doom", max_frames=100)
    with pytest.raises(UserError, match="--max-frames 100: no episode can be longer than the 100"):
        recording.extract(mpi.Alone(), run)
