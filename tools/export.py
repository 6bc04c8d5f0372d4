"""Write the recordings of a run as a dataset of Minari.

    python -m tools.export --run runs/car --minari          # world-models/car-v0
    python -c "import minari; print(minari.load_dataset('world-models/car-v0').sample_episodes(2))"

Observations are the recorded frames, uint8 (T + 1, 64, 64, 3), without loss: 12 KB a frame. An episode of the dataset
stops where the game was over, also if the recording goes on. A recording has no frame after its last action, so its
last frame stands twice. An episode's metadata say who played (policy, round) and from which seed (seed: of the
environment's reset; run_seed). Minari finds the dataset in MINARI_DATASETS_PATH, else in ~/.minari/datasets.
"""

import dataclasses
import re
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np

import world_models.environments  # noqa: F401 registers them
from world_models import command_line, tasks
from world_models.config import UserError
from world_models.runs import episodes, files
from world_models.runs.run import Run


def arrays_of(path: Path) -> dict:
    """An episode as Minari has it: observations (T + 1), and of each step action, reward and whether it was the end."""
    obs, action, reward, end = episodes.read(path)
    steps = min(end, len(obs))
    last = np.arange(steps) == steps - 1
    return {
        "observations": np.concatenate([obs, obs[-1:]])[: steps + 1],
        "actions": action[:steps],
        "rewards": reward[:steps],
        "terminations": last & (end == steps),
        "truncations": last & (end != steps),
        "infos": {},  # Minari prints no episode without
    }


def metadata_of(path: Path) -> dict:
    """What an episode's file says of its origin. h5py takes no None, and no integer of more than 64 bits."""
    source = {name: value for name, value in episodes.read_source(path).items() if value is not None}
    source["run_seed"] = str(source.pop("seed"))
    if "reset_seed" in source:  # recordings of earlier versions lack it
        source["seed"] = source.pop("reset_seed")
    return source


def export(run: Run, name: str) -> Path:
    """Writes the dataset `name`, and returns its folder. UserError if it exists, or if a recording is missing."""
    try:
        import minari  # here: it is not one of the requirements of a run
        from minari.data_collector import EpisodeBuffer
        from minari.dataset.minari_storage import MinariStorage
        from minari.namespace import create_namespace, list_local_namespaces
        from minari.storage.datasets_root_dir import get_dataset_path
    except ModuleNotFoundError as error:
        raise UserError(f"--minari: {error}; install it with: pip install 'minari[hdf5]'") from None
    if not re.fullmatch(r"(\w[\w/-]*/)?[\w-]+-v\d+", name):
        raise UserError(f"--minari: expected a name such as world-models/car-v0, got {name!r}")
    config, task = run.config, tasks.get(run.config.task)
    namespace, folder, spec = name.rpartition("/")[0], get_dataset_path(name), None
    if task.entry_point is not None:  # the environment is registered
        options = {"pixels": config.pixels} | ({"view": config.view} if task.views else {})
        spec = dataclasses.replace(gym.spec(f"WorldModels/{task.env_id}"), kwargs=options)
    if folder.exists():
        raise UserError(f"{folder} exists; delete it, or give another name: --minari {name[: name.rindex('-v')]}-v1")
    paths = episodes.complete(run)
    files.require_room(folder, sum(map(episodes.length_of, paths)) * 64 * 64 * 3)
    if namespace and namespace not in list_local_namespaces():
        create_namespace(namespace)
    made = folder.with_name(f".{folder.name}")  # Minari does not list hidden folders
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    spaces = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8), gym.spaces.Box(np.float32(task.low), np.float32(1))
    storage = MinariStorage.new(made / "data", *spaces, spec, jpeg_encoding=False)
    storage.update_metadata({"dataset_id": name, "minari_version": minari.__version__, "description": task.label})
    for index, path in enumerate(paths):
        storage.update_episodes([EpisodeBuffer(**arrays_of(path))])
        storage.update_episode_metadata([metadata_of(path)], [index])
    made.rename(folder)
    return folder


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run folder")
    words = "write a dataset of Minari, called NAME there (default world-models/FOLDER-v0)"
    parser.add_argument("--minari", nargs="?", const="", required=True, metavar="NAME", help=words)
    args = parser.parse_args()
    name = args.minari or f"world-models/{re.sub(r'[^0-9A-Za-z_-]', '-', args.run.resolve().name)}-v0"
    folder = export(Run(args.run), name)
    command_line.print_result(f"{folder}\nload it with: minari.load_dataset({name!r})")


if __name__ == "__main__":
    command_line.command(main)
