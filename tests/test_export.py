"""The recordings as a dataset that Minari loads."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, run_script, user_error
from small_run import episode_of, new_run

from world_models.runs import episodes
from world_models.runs.manifest import episode_digest
from world_models.runs.run import Run

LOAD = """
import json, sys
import minari, numpy
dataset = minari.load_dataset("world-models/car-v0")
assert dataset.id in minari.list_local_datasets()
(sampled,) = dataset.sample_episodes(1)
assert "uint8" in repr(sampled)
numpy.savez("sampled.npz", **{key: value for key, value in vars(sampled).items() if key not in ("infos",)})
sums = [float(episode.rewards.sum()) for episode in dataset]
metadata = [{k: str(v) for k, v in m.items()} for m in dataset.storage.get_episode_metadata(dataset.episode_indices)]
print(json.dumps([dataset.total_steps, sums, metadata]))
"""


@pytest.fixture
def minari_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def test_minari_loads_and_samples_the_recordings_of_a_run(minari_home, tmp_path):
    """In a program elsewhere. The frames are those that the game shows again from the seed."""
    run = tmp_path / "car"
    flags = "--task carracing --preset smoke --episodes 4 --max-frames 30 --view v3 --seed 7 --rnn-length 20"
    run_script("extract.py", "--run", run, *flags.split(), "--rnn-batch", "4")
    done = run_script("tools.export", "--run", run, "--minari")
    assert done.stdout.splitlines()[-1] == "load it with: minari.load_dataset('world-models/car-v0')"
    (tmp_path / "elsewhere").mkdir()
    call = [sys.executable, "-c", LOAD]
    loaded = subprocess.run(call, cwd=tmp_path / "elsewhere", capture_output=True, text=True, env=dict(os.environ))
    assert loaded.returncode == 0, loaded.stderr
    steps, sums, metadata = json.loads(loaded.stdout)
    paths = [episodes.path_of(Run(run), index) for index in range(4)]
    assert steps == 120 and sums == [float(episodes.read(path).reward.sum()) for path in paths]
    sources = [(m["policy"], m["round"], m["run_seed"], m["index"]) for m in metadata]
    assert sources == [("release", "1", "7", str(index)) for index in range(4)]
    with np.load(tmp_path / "elsewhere" / "sampled.npz") as sampled:
        index = int(sampled["id"])
        obs, action, *_ = episodes.read(paths[index])
        np.testing.assert_array_equal(sampled["observations"], np.concatenate([obs, obs[-1:]]))
        np.testing.assert_array_equal(sampled["actions"], action)
        assert not sampled["terminations"].any() and sampled["truncations"].tolist() == [False] * 29 + [True]
    import minari

    env = minari.load_dataset("world-models/car-v0").recover_environment()
    seen = [env.reset(seed=int(metadata[index]["seed"]))[0], *(env.step(one)[0] for one in action[:-1])]
    env.close()
    np.testing.assert_array_equal(seen, obs)


def test_an_episode_of_the_dataset_stops_where_the_game_was_over(minari_home, tmp_path):
    """The recordings of CarRacing go on after the end."""
    run = new_run(tmp_path / "car", seed=1 << 70)
    for index, end in enumerate((3, 6)):
        path = episode_of(run, index, frames=6, round=1, policy="release")
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files if name != "source"} | {"end": np.array(end)}
        arrays["obs"][:] = np.arange(6)[:, None, None, None]
        episodes.write(path, arrays, episodes.source_of(run.config, index))
    paths = [episodes.path_of(run, index) for index in range(2)]
    run.record_episodes({path.name: episode_digest(path) for path in paths})
    run_script("tools.export", "--run", run, "--minari", "mine/cars-v2")
    import minari

    dataset = minari.load_dataset("mine/cars-v2")
    ends = [(e.terminations.tolist(), e.truncations.any(), e.observations[:, 0, 0, 0].tolist()) for e in dataset]
    assert ends == [
        ([False, False, True], False, [0, 1, 2, 3]),
        ([False] * 5 + [True], False, [0, 1, 2, 3, 4, 5, 5]),
    ]
    assert next(iter(dataset.storage.get_episode_metadata([0])))["run_seed"] == str(1 << 70)
    assert "exists; delete it" in user_error("tools.export", "--run", run, "--minari", "mine/cars-v2")
    assert "expected a name" in user_error("tools.export", "--run", run, "--minari", "mine")
    path.unlink()
    assert "000001.npz is missing" in user_error("tools.export", "--run", run, "--minari")
    assert [one.name for one in (minari_home / "mine").iterdir() if one.is_dir()] == ["cars-v2"]


def test_without_minari_the_error_is_one_line(tmp_path):
    new_run(tmp_path / "car")
    (tmp_path / "minari.py").write_text("import no_such_minari\n", encoding="utf-8")
    call = [sys.executable, "-m", "tools.export", "--run", str(tmp_path / "car"), "--minari"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.endswith("No module named 'no_such_minari'; install it with: pip install 'minari[hdf5]'\n")
    assert done.stderr.startswith("error: --minari: ") and done.stderr.count("\n") == 1
