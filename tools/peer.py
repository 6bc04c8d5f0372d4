"""A peer's speed in the same units: EnvPool's CarRacing-v3, alone and with the same V, M and C, on one core.

    python -m tools.peer --run DIR

EnvPool is no dependency; tools that can use it skip it where it is not installed (`pip install envpool`).
"""

import dataclasses
import importlib.util
import json
import time
from pathlib import Path

import numpy as np

from world_models import command_line
from world_models import config as configs
from world_models.runs import run_dir
from world_models.training import quiet_tensorflow

WARM_UP, STEPS, REPEATS = 55, 60, 3  # past the zoom of the first second; then the median of three


def installed() -> bool:
    """Whether there is an EnvPool to compare with."""
    return importlib.util.find_spec("envpool") is not None


def make_envs(count: int):
    """EnvPool's environments, all stepped by one thread."""
    try:
        import envpool

        return envpool.make("CarRacing-v3", env_type="gymnasium", num_envs=count, num_threads=1, seed=1)
    except Exception as error:  # its data comes in packages of their own
        raise configs.UserError(f"EnvPool is installed but does not start: {error}; run: pip install envpool") from None


def observe(frames: np.ndarray, pixels: str) -> np.ndarray:
    """EnvPool's frames (B, 96, 96, 3) as V sees them, (B, 64, 64, 3)."""
    from world_models.tasks.pixels import shrink
    from world_models.tasks.raster import ROWS
    from world_models.tasks.resize import shrink_car

    return np.stack([shrink(np.ascontiguousarray(frame[:ROWS]), pixels, shrink_car) for frame in frames])


def rates(run: Path, config: configs.Config) -> dict[str, float]:
    """Steps a second of EnvPool's environments, 64x64 observation included, and of agents in them."""
    from controller.agent import make_agent, use_one_core
    from controller.policy import Controller
    from controller.precision import blank
    from world_models.world_model import WorldModel

    use_one_core()
    rng = np.random.default_rng(0)
    envs = make_envs(config.lanes)
    frames, _ = envs.reset()
    agent = make_agent(config, WorldModel.load(run, config), config.lanes)
    _, noise, _, is_first, h, c = blank(config)
    params = 0.1 * rng.standard_normal((config.lanes, Controller.of(config).num_params)).astype(np.float32)

    def wander() -> None:
        action = rng.uniform((-0.3, 0, 0), (0.3, 0.3, 0.1), (config.lanes, 3)).astype(np.float32)
        observe(envs.step(action)[0], config.pixels)

    def drive() -> None:
        nonlocal frames, h, c
        rng.standard_normal(dtype=np.float32, out=noise)
        action, h, c = agent(observe(frames, config.pixels), noise, params, is_first, h, c)
        frames = envs.step(action.numpy())[0]

    found = {}
    for name, step in (("envpool_env", wander), ("envpool_agent", drive)):
        for _ in range(WARM_UP):
            step()
        seconds = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            for _ in range(STEPS):
                step()
            seconds.append(time.perf_counter() - begun)
        found[name] = config.lanes * STEPS / float(np.median(seconds))
    envs.close()
    return found


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="a run of CarRacing with V and M")
    parser.add_argument("--lanes", type=command_line.count, default=48, help="episodes at once (default 48)")
    args = parser.parse_args()
    if not installed():
        raise configs.UserError("EnvPool is not installed; run: pip install envpool")
    config = run_dir.load(args.run)
    run_dir.need_models(args.run)
    quiet_tensorflow()
    print(json.dumps(rates(args.run, dataclasses.replace(config, lanes=args.lanes, dtype="float32"))))


if __name__ == "__main__":
    command_line.command(main)
