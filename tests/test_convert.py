"""The release's JSON, out of a run and into one again: every number survives."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import run_script, user_error
from small_run import contents

from controller.policy import Controller
from tools.convert import export_run, import_run
from tools.release import SCALE, json_name
from world_models import config as configs
from world_models import tasks
from world_models.config import UserError
from world_models.runs import weights
from world_models.runs.begin import begin
from world_models.runs.run import Run
from world_models.world_model import load_rnn, load_vae, make_rnn, make_vae

TASKS = ("carracing", "doom")
CONTROLLERS = {"carracing": "carracing.cma.16.64.best.json", "doom": "doomrnn.cma.16.64.best.json"}
FRAMES = 20  # of an imported agent's episodes
HALF = 0.5 / SCALE + 1e-6  # half a ten-thousandth, and float32's own rounding


def export(task: str, base: Path) -> tuple:
    """(run, folder of its JSON files, V, M): the paper's sizes, random weights, biases too."""
    rng = np.random.default_rng(3)
    run, out = base / "run", base / "out"
    begun = begin(run, {"task": task, "preset": "paper"})
    config = begun.config
    models = [make_vae(config), make_rnn(config)]
    for model, name in zip(models, ("vae.weights.h5", "rnn.weights.h5"), strict=True):
        for variable in model.trainable_variables:
            variable.assign(rng.normal(0, 0.05, variable.shape))
        weights.save(model, begun, name)
    shape = (11, config.z_size)
    with begun.write("initial_z.npz") as tmp, open(tmp, "wb") as file:
        np.savez(file, mu=rng.normal(0, 1, shape), logvar=rng.normal(-3, 1, shape))
    best = {"generation": 25, "score": 812.34, "std": 3.0, "episodes": 8}
    best["parameters"] = rng.normal(0, 0.5, Controller.of(config).num_params).tolist()
    begun.write_text("controller/best.json", json.dumps(best))
    export_run(run, out)
    return run, out, *models


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, tuple]:
    """What `export` made of each task."""
    return {task: export(task, tmp_path_factory.mktemp(task)) for task in TASKS}


def files_of(out: Path, task: str) -> dict[str, Path]:
    names = {"vae": "vae.json", "rnn": "rnn.json", "controller": CONTROLLERS[task], "initial_z": "initial_z.json"}
    return {name: out / file for name, file in names.items()}


@pytest.fixture(scope="module")
def imported(exported, tmp_path_factory) -> dict[str, Path]:
    """The runs that those files make, of short episodes."""
    base = tmp_path_factory.mktemp("imported")
    for task, (_, out, *_) in exported.items():
        import_run(base / task, files_of(out, task), {"task": task, "max_frames": FRAMES})
    return {task: base / task for task in exported}


@pytest.mark.parametrize("task", TASKS)
def test_export_then_import_keeps_every_number(task, exported, imported):
    run, _, *models = exported[task]
    new = imported[task]
    found = Run(new).config
    assert (found.task, found.preset, found.pixels) == (task, "paper", "release")
    for before, load in zip(models, (load_vae, load_rnn), strict=True):
        after = load(Run(new))
        assert len(before.trainable_variables) == len(after.trainable_variables) > 0
        for old, kept in zip(before.trainable_variables, after.trainable_variables, strict=True):
            np.testing.assert_allclose(np.asarray(kept), np.asarray(old), rtol=0, atol=HALF)
    with np.load(run / "initial_z.npz") as old, np.load(new / "initial_z.npz") as kept:
        for name in ("mu", "logvar"):
            assert kept[name].dtype == np.float32
            np.testing.assert_allclose(kept[name], old[name], rtol=0, atol=HALF)
    old, kept = (json.loads((path / "controller" / "best.json").read_text()) for path in (run, new))
    np.testing.assert_allclose(kept.pop("parameters"), old["parameters"], rtol=0, atol=HALF)
    assert kept == {"generation": None, "score": 812.34, "std": None, "episodes": None}


@pytest.mark.parametrize("task", TASKS)
def test_files_have_the_releases_order(task, exported):
    _, out, model, _ = exported[task]
    rnn = [np.array(a) for a in json.loads((out / "rnn.json").read_text())]
    units, inputs, outputs, z = {"carracing": (256, 35, 480, 32), "doom": (512, 66, 961, 64)}[task]
    head, lstm = [(units, outputs), (outputs,)], [(inputs + units, 4 * units), (4 * units,)]
    assert [a.shape for a in rnn] == (head + lstm if task == "carracing" else lstm + head)
    assert all(a.dtype == np.int64 for a in rnn)
    vae = json.loads((out / "vae.json").read_text())
    shapes = [(4, 4, 3, 32), (32,), (4, 4, 32, 64), (64,), (4, 4, 64, 128), (128,), (4, 4, 128, 256), (256,)]
    shapes += [(1024, z), (z,), (1024, z), (z,), (z, 1024), (1024,)]
    shapes += [(5, 5, 128, 1024), (128,), (5, 5, 64, 128), (64,), (6, 6, 32, 64), (32,), (6, 6, 3, 32), (3,)]
    assert [np.shape(a) for a in vae] == shapes
    # mu's kernel and bias, not logvar's.
    assert vae[9] == [round(float(w) * 10000) for w in np.asarray(model.mu.bias)]


def test_nothing_to_export(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        export_run(tmp_path, tmp_path / "out")
    begin(tmp_path, {"task": "doom", "preset": "paper"})
    with pytest.raises(UserError, match="nothing to export"):
        export_run(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_say_episodes_and_population():
    assert json_name("controller", tasks.preset("doom", "paper")) == "doomrnn.cma.16.64.best.json"
    assert json_name("controller", tasks.preset("carracing", "laptop")) == "carracing.cma.8.48.best.json"


def test_the_commands(exported, imported, tmp_path):
    """Imported agents play their games, and a run comes out and goes in again as it was."""
    out, new = tmp_path / "out", tmp_path / "new"
    files = files_of(out, "doom").items()
    flags = [text for name, path in files for text in (configs.flag(name), path)]
    again = ["tools.convert", "import", "--run", new, "--task", "doom", *flags]
    for run in imported.values():
        run_script("evaluate.py", "--run", run, "--play-in", "real", "--episodes", "2", "--no-video")
    said = run_script("tools.convert", "export", "--run", imported["doom"], "--out", out).stdout
    assert f"import with --task doom --max-frames {FRAMES}" in said
    assert f"play it with: python evaluate.py --run {new}" in run_script(*again).stdout
    for task, run in imported.items():
        [row] = json.loads((run / "results.json").read_text())["results"]
        assert (row["task"], row["play_in"], row["pixels"], row["generation"]) == (task, "real", "release", None)
        assert row["mean_steps"] == FRAMES and len(row["returns"]) == 2 and np.isfinite(row["returns"]).all()
    for name, path in files:
        assert path.read_bytes() == files_of(exported["doom"][1], "doom")[name].read_bytes(), name
    kept = contents(new)
    assert "vae.weights.h5 exists" in user_error(*again) and kept == contents(new)


def test_rewards_keep_their_unit(tmp_path):
    """The release's M has no unit of rewards: exported are those in the task's own."""
    run = begin(tmp_path / "run", {"task": "carracing", "preset": "paper", "heads": "end+reward"})
    config = run.config
    model = make_rnn(config)
    model.reward_scale.assign(7.0)
    weights.save(model, run, "rnn.weights.h5")
    said = export_run(tmp_path / "run", tmp_path / "out")
    assert "--heads end+reward" in said
    given = {"task": "carracing", "heads": "end+reward"}
    import_run(tmp_path / "new", {"rnn": tmp_path / "out" / "rnn.json"}, given)
    h = np.random.default_rng(0).uniform(-1, 1, (5, config.rnn_units)).astype(np.float32)
    old, new = (m.reward(m.head(h)).numpy() for m in (model, load_rnn(Run(tmp_path / "new"))))
    np.testing.assert_allclose(new, old, atol=HALF * config.rnn_units)
    assert abs(old).max() > 10 * HALF * config.rnn_units
