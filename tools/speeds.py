"""What tools.bench measures: environments, agents and dreams, each alone, in units a second.

Agents are measured as programs of their own, under mpirun where ranks are several:

    mpirun -n 2 python -m tools.speeds --run DIR --lanes 48
"""

import dataclasses
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tools.launcher import mpirun
from world_models import command_line, mpi, tasks
from world_models import config as configs
from world_models.runs import run_dir
from world_models.training import quiet_tensorflow

ROOT = Path(__file__).parent.parent
LANES, DREAM_LANES, STEPS = 48, 1024, 60  # of the agents' measurement


def median_rate(work: Callable[[], int], repeats: int = 5) -> float:
    """Units a second of `work`, which returns how many it did: the median of `repeats`, after one warm-up."""
    work()
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        done = work()
        rates.append(done / (time.perf_counter() - started))
    return float(np.median(rates))


def environments() -> dict[str, float]:
    """Steps a second of one environment on one core, its 64x64 observation included."""
    from gymnasium.envs.box2d.car_racing import CarRacing as Stock
    from PIL import Image

    from world_models.tasks.carracing_env import CarRacing
    from world_models.tasks.takecover_env import DoomTakeCover

    class Shrunk(Stock):
        """Gymnasium's, with the crop and the resize that every user of it adds."""

        def _render(self, mode: str):
            return np.asarray(Image.fromarray(super()._render(mode)[:84]).resize((64, 64), Image.Resampling.BILINEAR))

    def drive(env, steps: int) -> float:
        rng = np.random.default_rng(0)
        env.reset(seed=1)
        for _ in range(60):  # past the zoom of the first second
            env.step(np.float32([0, 0.1, 0]))
        started = time.perf_counter()
        for _ in range(steps):
            env.step(rng.uniform((-0.3, 0, 0), (0.3, 0.3, 0.1)).astype(np.float32))
        return steps / (time.perf_counter() - started)

    rates = {}
    for name, env, steps in (
        ("gymnasium", Shrunk(), 100),
        ("v0", CarRacing(view="v0"), 1000),
        ("v3", CarRacing(view="v3"), 1000),
    ):
        drive(env, steps)
        rates[name] = float(np.median([drive(env, steps) for _ in range(5)]))

    game = DoomTakeCover()

    def dodge() -> int:
        rng, steps = np.random.default_rng(0), 0
        game.reset(seed=1)
        over = False
        while not over:
            _, _, terminated, truncated, _ = game.step(rng.uniform(-1, 1, 1))
            over, steps = terminated or truncated, steps + 1
        return steps

    rates["doom"] = median_rate(dodge)
    game.close()
    return rates


def make_run(run: Path, task: str) -> configs.Config:
    """A run of the paper's sizes with random weights: speed does not depend on them."""
    import tensorflow as tf

    from world_models.training import save_arrays, save_weights
    from world_models.world_model import make_rnn, make_vae

    lanes = DREAM_LANES if tasks.preset(task, "paper").env == "dream" else LANES
    config = run_dir.open_run(run, {"task": task, "preset": "paper", "lanes": lanes})
    save_weights(make_vae(config), run / "vae.weights.h5")
    rnn = make_rnn(config)
    if "end" in rnn.heads:
        rnn.head.bias.assign(tf.tensor_scatter_nd_update(rnn.head.bias, [[0]], [-100.0]))  # no dream ends
    save_weights(rnn, run / "rnn.weights.h5")
    zeros = np.zeros((10, config.z_size), np.float32)
    save_arrays(run / "initial_z.npz", {"mu": zeros, "logvar": zeros}, {})
    return config


def agent(comm, run: Path, lanes: int, dtype: str) -> None:
    """One rank of the agents' measurement: prints steps/s, its split and its memory as JSON."""
    from controller.lanes import SEGMENT, make_lanes
    from controller.policy import Controller

    config = dataclasses.replace(run_dir.load(run), dtype=dtype)
    dreaming = config.env == "dream"
    lanes = make_lanes(run, dataclasses.replace(config, lanes=lanes))
    rng = np.random.default_rng(comm.rank)
    for lane in range(lanes.count):
        lanes.start(lane, 0.1 * rng.standard_normal(Controller.of(config).num_params), 1000 * comm.rank + lane)
    spent = {"models": 0.0}
    if not dreaming:
        inner = lanes.agent

        def timed(*args):
            started = time.perf_counter()
            action, h, c = inner(*args)
            action.numpy()
            spent["models"] += time.perf_counter() - started
            return action, h, c

        lanes.agent = timed
    a_time, repeats = (SEGMENT, 5) if dreaming else (1, STEPS)
    for _ in range(1 if dreaming else 55):  # compiles; and past the zoom of the first second
        lanes.advance()
    rates, waited = [], 0.0
    for _ in range(3):
        mpi.wait(comm)
        spent["models"], started = 0.0, time.perf_counter()
        for _ in range(repeats):
            lanes.advance()
        busy = time.perf_counter() - started
        mpi.wait(comm)
        total = time.perf_counter() - started
        rates.append(comm.size * lanes.count * repeats * a_time / total)
        waited = total - busy
    assert all(random is not None for random in lanes.random), "every lane played all along"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    memory = max(comm.gather(memory) or [memory])
    if comm.rank == 0:
        models = spent["models"]
        split = {"env": (busy - models) / total, "models": models / total, "waiting": waited / total}
        print(json.dumps({"rate": float(np.median(rates)), "split": split, "memory": memory}))


def agents(run: Path, ranks: int, lanes: int, dtype: str = "float32") -> dict:
    """`agent` on that many ranks."""
    launcher = mpirun(ranks) if ranks > 1 else []
    return program("tools.speeds", "--run", run, "--lanes", lanes, "--dtype", dtype, launcher=launcher)


def program(*arguments, launcher: list = ()) -> dict:
    """Runs a measurement, a module, as a program of its own; the JSON of its last line."""
    command = list(map(str, [*launcher, sys.executable, "-m", *arguments]))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise configs.UserError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def dream_alone(run: Path) -> float:
    """Steps a second of the single Gymnasium environment."""
    from doom_rnn.dream import DreamEnv

    env = DreamEnv(run)

    def work() -> int:
        env.reset(seed=1)
        for _ in range(300):
            env.step(np.float32([0]))
        return 300

    return median_rate(work)


def dreams_together(run: Path) -> float:
    """Steps a second of the vector environment of DREAM_LANES dreams, actions from outside, all cores."""
    from doom_rnn.vector import VectorDreamEnv

    env = VectorDreamEnv(DREAM_LANES, run)
    actions = np.zeros(env.action_space.shape, np.float32)

    def work() -> int:
        env.reset(seed=1)
        for _ in range(20):
            env.step(actions)
        return 20 * DREAM_LANES

    return median_rate(work, 3)


def main(comm) -> None:
    parser = command_line.Parser(comm.rank > 0, description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="a run that has its models")
    parser.add_argument("--lanes", type=int, default=LANES, help=f"episodes at once (default {LANES})")
    parser.add_argument("--dtype", choices=configs.DTYPES, default="float32", help="arithmetic of V's encoder")
    args = parser.parse_args()
    mpi.on_root(comm, run_dir.need_models, args.run)
    quiet_tensorflow()
    agent(comm, args.run, args.lanes, args.dtype)


if __name__ == "__main__":
    mpi.launch(main)
