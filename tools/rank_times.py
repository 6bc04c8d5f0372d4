"""The times that tools.simulate_ranks begins from, measured on this machine."""

import dataclasses
import itertools
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from controller.optimizers import make_optimizer
from tools.launcher import mpirun
from world_models import config as configs
from world_models import tasks

LANES = (1, 4, 16, 48)
WARM, GENERATIONS = 3, 18  # of the search: its matrix is decomposed in one of about 2.6 generations
EPISODES = 64  # of the agent, whose lengths are taken


@dataclasses.dataclass(frozen=True)
class Times:
    """What was measured, in seconds.

    Attributes:
        models: of V, M and C for a batch, by its lanes. These, `env` and `search` are the processor's own time, which
            what else runs on the machine hardly changes.
        env: of one environment's step.
        message: one way between two ranks of this machine, and handling it.
        search: rank 0's own a generation: ask and tell.
        lengths: the steps of episodes that the run's agent has played; simulated ones are drawn from them.
    """

    models: dict[int, float]
    env: float
    message: float
    search: float
    lengths: tuple[int, ...]

    def step(self, lanes: int, playing: int) -> float:
        """A rank's step: the models compute all lanes, environments step where an episode is played."""
        return self.models[lanes] + playing * self.env


def measure(run: Path, config: configs.Config) -> Times:
    """The times of this machine; one core, but for the message, which needs two processes."""
    from controller.agent import make_agent, use_one_core
    from controller.policy import Controller
    from controller.precision import blank
    from world_models.environments import make_env
    from world_models.world_model import WorldModel

    use_one_core()
    model = WorldModel.load(run, config)
    models = {}
    for lanes in LANES:
        agent = make_agent(config, model, lanes)
        inputs = blank(dataclasses.replace(config, lanes=lanes))
        models[lanes] = quickest(lambda agent=agent, inputs=inputs: agent(*inputs)[0].numpy(), 12)
    env = make_env(config)
    env.reset(seed=1)
    policy = tasks.get(config.task).policies[config.policy](np.random.default_rng(0))
    actions = map(policy.act, itertools.count())
    for _ in range(60):  # past CarRacing's zoom of the first second
        env.step(next(actions))
    step = quickest(lambda: env.step(next(actions)), 200)
    env.close()
    es = make_optimizer(config, Controller.of(config).num_params, np.random.default_rng(0))
    for generation in range(-WARM, GENERATIONS):
        if generation == 0:
            begun = time.process_time()
        candidates = es.ask()
        es.tell(-np.square(candidates).sum(axis=1))
    search = (time.process_time() - begun) / GENERATIONS
    return Times(models, step, message_time(), search, lengths_of(run, config, model))


def lengths_of(run: Path, config: configs.Config, model) -> tuple[int, ...]:
    """The steps of EPISODES test episodes of the run's agent."""
    from controller.jobs import Jobs
    from controller.lanes import RealLanes
    from controller.policy import Controller
    from controller.rollout import play
    from world_models import mpi, seeds
    from world_models.runs.agent_file import read_best

    parameters = read_best(run / "controller", Controller.of(config).num_params)["parameters"]
    lanes = RealLanes(config, model, LANES[2])
    plan = seeds.test_seeds(EPISODES)
    found = play(lanes, Jobs(mpi.world(), EPISODES), np.tile(parameters, (EPISODES, 1)), plan)
    lanes.close()
    return tuple(found[number][1] for number in range(EPISODES))


def times_of(held: dict) -> Times:
    """Times as a JSON file holds them."""
    models = {int(lanes): value for lanes, value in held["models"].items()}
    return Times(**(held | {"models": models, "lengths": tuple(held["lengths"])}))


def quickest(call, repeats: int) -> float:
    """Processor seconds of a call: the median of the faster half of `repeats`, after one to warm up."""
    call()
    seconds = []
    for _ in range(repeats):
        begun = time.process_time()
        call()
        seconds.append(time.process_time() - begun)
    return float(np.median(np.sort(seconds)[: max(1, repeats // 2)]))


PING = """
import time
from mpi4py import MPI
comm, best = MPI.COMM_WORLD, 1e9
for _ in range(4000):
    begun = time.perf_counter()
    if comm.rank == 0:
        comm.send(range(3, 7), dest=1); comm.recv(source=1)
    else:
        comm.send(comm.recv(source=0), dest=0)
    best = min(best, (time.perf_counter() - begun) / 2)
if comm.rank == 0:
    print(best)
"""


def message_time() -> float:
    """Seconds for a pickled message of jobs from one process to another: the fastest, undisturbed by what else runs."""
    done = subprocess.run([*mpirun(2), sys.executable, "-c", PING], capture_output=True, text=True)
    if done.returncode:
        raise configs.UserError(f"a message could not be measured:\n{done.stderr}")
    return float(done.stdout)
