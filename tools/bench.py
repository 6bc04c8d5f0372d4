"""Measures the speeds that docs/speed.md states, on this machine, in under 5 minutes.

    python -m tools.bench --json speeds.json

Each speed is the median of repeated measurements after a warm-up. No other program should run at the same time.
Agents are measured as programs of their own, several ranks under mpirun.
"""

import dataclasses
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.envs.box2d.car_racing import CarRacing as Stock
from PIL import Image

from tools.launcher import mpirun
from world_models import command_line, mpi, published, tasks
from world_models import config as configs
from world_models.runs import files, weights
from world_models.runs.begin import begin
from world_models.runs.run import Run
from world_models.tasks.carracing_env import CarRacing
from world_models.tasks.takecover_env import DoomTakeCover
from world_models.training import hold_memory, make_optimizer, quiet_tensorflow

quiet_tensorflow()

import tensorflow as tf  # noqa: E402

from controller.lanes import SEGMENT, make_lanes  # noqa: E402
from controller.policy import Controller  # noqa: E402
from doom_rnn.env import DreamEnv  # noqa: E402
from doom_rnn.vector import VectorDreamEnv  # noqa: E402
from rnn.train import make_step as rnn_step  # noqa: E402
from vae.train import make_step as vae_step  # noqa: E402
from world_models.world_model import make_rnn, make_vae  # noqa: E402

ROOT = Path(__file__).parent.parent
CURVES = published.read()["training_curves"]
LANES, DREAM_LANES, STEPS = 48, 1024, 60  # of the agents' measurement


def median_rate(work: Callable[[], int], repeats: int = 5) -> float:
    """Units a second of `work`, which returns how many it did: the median of `repeats`, after one warm-up."""
    work()
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        rates.append(work() / (time.perf_counter() - started))
    return float(np.median(rates))


def speed(env: Any, draw: Callable[[], np.ndarray], steps: int, skip: int = 1, count: int = 1) -> float:
    """Steps a second of an environment of `count` lanes, whose actions are drawn: the median of five episodes' steps
    from `skip` on, after the warm-up of another episode."""
    rates = []
    for _ in range(6):
        env.reset(seed=1)
        for step in range(skip + steps):
            if step == skip:
                started = time.perf_counter()
            env.step(draw())
        rates.append(count * steps / (time.perf_counter() - started))
    env.close()
    return float(np.median(rates[1:]))


def environments() -> dict[str, float]:
    """Steps a second of one environment on one core, including its 64x64 observation."""

    class Shrunk(Stock):  # with the crop and the resize that every user adds
        def _render(self, mode: str):
            return np.asarray(Image.fromarray(super()._render(mode)[:84]).resize((64, 64), Image.Resampling.BILINEAR))

    rng = np.random.default_rng(0)

    def drive() -> np.ndarray:
        return rng.uniform((-0.3, 0, 0), (0.3, 0.3, 0.1)).astype(np.float32)

    found = {view: speed(CarRacing(view=view), drive, 1000, skip=60) for view in ("v0", "v3")}  # 60: it zooms in
    found["gymnasium"] = speed(Shrunk(), drive, 100, skip=60)
    return found | {"doom": speed(DoomTakeCover(), lambda: rng.uniform(-1, 1, 1), 100)}


def make_run(path: Path, task: str) -> None:
    """Makes a run of the paper's sizes with random weights. The speed does not depend on the weights."""
    run = begin(path, {"task": task, "preset": "paper"})
    weights.save(make_vae(run.config), run, "vae.weights.h5")
    rnn = make_rnn(run.config)
    if "end" in rnn.heads:
        rnn.head.bias.assign(tf.tensor_scatter_nd_update(rnn.head.bias, [[0]], [-100.0]))  # no dream ends
    weights.save(rnn, run, "rnn.weights.h5")
    with run.write("initial_z.npz") as tmp:
        np.savez(tmp, **dict.fromkeys(("mu", "logvar"), np.zeros((10, run.config.z_size), np.float32)))


def play_agents(comm) -> None:
    """One rank of `agents`, whose arguments follow --agents. Rank 0 prints the steps a second and the memory."""
    run, count, dtype = Run(Path(sys.argv[2])), int(sys.argv[3]), sys.argv[4]
    config = dataclasses.replace(run.config, dtype=dtype, lanes=count)
    lanes, dreaming = make_lanes(run, config), config.play_in == "dream"
    rng = np.random.default_rng(comm.rank)
    for lane in range(lanes.count):
        lanes.start(lane, 0.1 * rng.standard_normal(Controller.of(config).num_params), 1000 * comm.rank + lane)
    rates = []
    a_time, repeats = (SEGMENT, 5) if dreaming else (1, STEPS)
    for _ in range(1 if dreaming else 55):  # compiles, and passes the zoom of the first second
        lanes.advance()
    for _ in range(3):
        mpi.wait(comm)
        started = time.perf_counter()
        for _ in range(repeats):
            lanes.advance()
        mpi.wait(comm)
        rates.append(comm.size * lanes.count * repeats * a_time / (time.perf_counter() - started))
    assert len(lanes.random) == lanes.count, "every lane plays all the time"
    memory = max(comm.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024) or [0])
    if comm.rank == 0:
        command_line.print_result(json.dumps({"rate": float(np.median(rates)), "memory": memory}))


def agents(run: Path, ranks: int, lanes: int, dtype: str = "float32") -> dict:
    """`play_agents` on that many ranks, as a program of its own."""
    command = [*(mpirun(ranks) if ranks > 1 else []), sys.executable, "-m", "tools.bench", "--agents"]
    command += [str(run), str(lanes), dtype]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise configs.UserError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def trainings() -> dict[str, float]:
    """Frames a second of V's training and time steps ("tokens") a second of M's, with all cores."""
    hold_memory()
    config, rng, number = tasks.preset("carracing", "paper"), np.random.default_rng(0), tf.constant(0, tf.int64)
    vae, rnn = make_vae(config), make_rnn(config)
    vae_fit = vae_step(vae, make_optimizer(config.vae_rate, vae.trainable_variables), config)
    frames = tf.constant(rng.integers(0, 256, (config.vae_batch, 64, 64, 3)).astype(np.uint8))

    def fit_vae() -> int:
        return sum(config.vae_batch for _ in range(5) if float(vae_fit(number, frames)["vae_loss"]))

    state = [tf.Variable(tf.zeros((config.rnn_batch, config.rnn_units)), trainable=False) for _ in range(2)]
    rnn_fit = rnn_step(rnn, make_optimizer(config.rnn_rate, rnn.trainable_variables), state, config)
    shape = (config.rnn_length + 1, config.rnn_batch)
    mu, logvar = (tf.constant(rng.standard_normal((*shape, config.z_size)), tf.float16) for _ in range(2))
    action, restart = tf.constant(rng.standard_normal((*shape, 3)), tf.float32), tf.zeros((*shape, 1))

    def fit_rnn() -> int:
        float(rnn_fit(number, True, mu, logvar, action, *[restart] * 4)["loss"])
        return config.rnn_batch * config.rnn_length

    return {"vae_frames": median_rate(fit_vae), "rnn_tokens": median_rate(fit_rnn, 3)}


def report(figures: dict) -> str:
    """The figures and their ratios, as text."""
    f, car, doom = figures, *(CURVES[task]["agent_steps_per_second_on_64_cores"] for task in ("carracing", "doom"))
    two, alone, dreams, tokens = f["agents_2_ranks"], f["agents_batch_1"], f["dreams"], f["rnn_tokens"]
    rows = [
        ("CarRacing, Gymnasium's drawing", f["gymnasium"], "steps/s, one core"),
        ("CarRacing, v0 view", f["v0"], f"steps/s, one core: {f['v0'] / f['gymnasium']:.1f} x"),
        ("CarRacing, v3 view", f["v3"], f"steps/s, one core: {f['v3'] / f['gymnasium']:.1f} x"),
        ("TakeCover at 640x480", f["doom"], "steps/s, one core"),
        ("agents, 1 rank", f["agents_1_rank"], "agent-steps/s"),
        ("agents, 2 ranks", two, f"{two / f['agents_1_rank']:.2f} x one rank, {two / car:.1f} x the paper's 64 cores"),
        ("agents, 2 ranks, bfloat16", f["agents_bfloat16"], f"{f['agents_bfloat16'] / two:.2f} x float32"),
        ("agents, 1 rank, batch 1", alone, f"48 lanes on 2 ranks are {two / alone:.1f} x batch 1"),
        ("Doom's dream, 1,024 lanes on 2 ranks", dreams, f"dream-steps/s: {dreams / doom:.1f} x the paper's 64 cores"),
        ("Doom's dream, one environment", f["dream_single"], "dream-steps/s"),
        ("Doom's dream, 1,024 as one vector", f["dream_vector"], f"{f['dream_vector'] / f['dream_single']:.0f} x one"),
        ("V's training, batch 100", f["vae_frames"], "frames/s"),
        ("M's training, 100 x 999", tokens, f"time steps/s: {99_900 / tokens:.2f} s a step"),
        ("memory of a rank", f["rank_mb"], "MB at its peak"),
    ]
    return "\n".join(f"{name:<38} {value:>10,.0f}  {text}" for name, value, text in rows)


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    figures, idle = environments(), np.zeros((DREAM_LANES, 1), np.float32)
    with tempfile.TemporaryDirectory() as scratch:
        car, doom = Path(scratch) / "car", Path(scratch) / "doom"
        make_run(car, "carracing")
        make_run(doom, "doom")
        two = agents(car, 2, LANES)
        figures |= {"agents_1_rank": agents(car, 1, LANES)["rate"], "agents_2_ranks": two["rate"]}
        figures |= {"agents_bfloat16": agents(car, 2, LANES, "bfloat16")["rate"], "rank_mb": two["memory"]}
        figures |= {"agents_batch_1": agents(car, 1, 1)["rate"], "dreams": agents(doom, 2, DREAM_LANES // 2)["rate"]}
        figures["dream_vector"] = speed(VectorDreamEnv(DREAM_LANES, doom), lambda: idle, 20, count=DREAM_LANES)
        figures["dream_single"] = speed(DreamEnv(doom), lambda: idle[0], 300)
    figures |= trainings()
    command_line.print_result(report(figures))
    if args.json:
        files.write_text(args.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--agents"]:  # a rank of `agents`
        mpi.launch(play_agents)
    else:
        command_line.command(main)
