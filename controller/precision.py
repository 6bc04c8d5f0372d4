"""Which arithmetic V's encoder acts in under `--dtype auto`: measured on the ranks that are to act."""

import dataclasses
import time
from pathlib import Path

import numpy as np

from controller.agent import make_agent, use_one_core
from controller.lanes import lanes_of
from controller.policy import Controller
from world_models import command_line, mpi
from world_models.config import DTYPES, Config
from world_models.world_model import WorldModel

GAIN = 1.05  # by which bfloat16 must be faster on the slowest rank: less may be a measurement's noise
ROUNDS, SECONDS = 9, 3.0  # at most so many steps of each are timed, or for so long


def choose_dtype(comm, run: Path, config: Config, before: str | None) -> str:
    """The arithmetic for all ranks: what the run says, or under "auto" the faster one.

    Ranks measure all at once, as they will act; bfloat16 is taken only where it is faster on every one.

    Args:
        before: what an earlier part of the same search acted in, on rank 0: it goes on in that.
    """
    if config.dtype != "auto":
        return config.dtype
    before = comm.bcast(before)
    if before:
        return before
    if config.env == "dream":  # nothing is encoded
        return "float32"
    gain = min(comm.allgather(mpi.on_all_ranks(comm, gain_of_bfloat16, run, config)))
    chosen = "bfloat16" if gain > GAIN else "float32"
    if comm.rank == 0:
        command_line.say(f"acting in {chosen}: bfloat16 is {gain:.2f} times as fast as float32 here")
    return chosen


def gain_of_bfloat16(run: Path, config: Config) -> float:
    """How many times as fast as in float32 the agents' step is in bfloat16, in this process on one thread."""
    use_one_core()
    config = dataclasses.replace(config, lanes=lanes_of(config))
    steps = []
    for dtype in DTYPES:
        model = WorldModel.load(run, config, dtype)
        agent = make_agent(dataclasses.replace(config, dtype=dtype), model, config.lanes)
        steps.append(lambda inputs, agent=agent: agent(*inputs)[0].numpy())
    return gain(*(lambda step=step: step(blank(config)) for step in steps))


def gain(slow, fast) -> float:
    """Seconds of `slow()` over those of `fast()`: the fastest of alternate calls of each, after one to warm up."""
    best = [np.inf, np.inf]
    for call in (slow, fast):
        call()
    started = time.perf_counter()
    for _ in range(ROUNDS):
        for k, call in enumerate((slow, fast)):
            begun = time.perf_counter()
            call()
            best[k] = min(best[k], time.perf_counter() - begun)
        if time.perf_counter() - started > SECONDS:
            break
    return best[0] / best[1]


def blank(config: Config) -> tuple[np.ndarray, ...]:
    """The inputs of one step of all lanes: how long it takes does not depend on what is in them."""
    sizes = (config.z_size, Controller.of(config).num_params, 1, config.rnn_units, config.rnn_units)
    frames = np.zeros((config.lanes, 64, 64, 3), np.uint8)
    return frames, *(np.zeros((config.lanes, size), np.float32) for size in sizes)
