"""The page of dreams: its arithmetic against Keras, in Node."""

import base64
import dataclasses
import json
import re
import shutil
import subprocess
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, SHIPPED, need_program, run_script
from small_run import episode_of, small

import tasks
from common import results, run_dir, storage
from common.pictures import to_uint8
from common.training import save_arrays, save_weights
from config import UserError
from controller.policy import Controller
from tasks.controls import plain
from tools.page import source as sources
from tools.page import weights
from tools.page.__main__ import build
from vae.data import episodes as recordings
from vae.data import read_episode
from world_model import WorldModel, make_rnn, make_vae

STEPS = 200
END_WEIGHT = 1e-3  # of drawn ends, instead of 10: so that many of 200 steps have one


@pytest.fixture(scope="session", params=SHIPPED)
def both(request, site) -> dict:
    """A run, what Keras makes of 200 steps of its dream, and what the page's JavaScript makes of the same numbers."""
    node = need_program("node", "nodejs")
    source = sources.read(ROOT / "pretrained" / request.param)
    config, rnn = source.config, source.rnn
    rng = np.random.default_rng(5)
    shape = (STEPS, config.z_size)
    ask = {"tau": config.temperature, "uniform": rng.random(shape, np.float32), "end_weight": END_WEIGHT}
    ask["noise"] = rng.standard_normal(shape, np.float32)
    first = source.starts[0][:1].astype(np.float32)
    expected = walk(source, first, ask)
    ask |= {"z": expected["z_before"], "action": expected["action"]}
    text = json.dumps({name: np.asarray(value).tolist() for name, value in ask.items()})
    done = subprocess.run(
        [node, ROOT / "tests/page_numbers.js", site, request.param], input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    rounded = dict(zip(("kernel", "recurrent", "bias"), rnn.cell.weights, strict=True))
    rounded |= dict(zip(("head", "headb"), rnn.head.weights, strict=True))
    for name, variable in rounded.items():
        variable.assign(np.reshape(answer["weights"][name], variable.shape))
    return {"source": source, "expected": expected, "answer": answer, "same": walk(source, first, ask)}


def walk(source, z, ask: dict) -> dict:
    """A dream of STEPS steps in Keras, driven by C: arrays of what each step began with and gave."""
    config, rnn = source.config, source.rnn
    controller = Controller.of(config)
    step = tf.function(lambda action, *rest: WorldModel(None, rnn).imagine(lambda z, c, h: action, *rest))
    h = c = np.zeros((1, config.rnn_units), np.float32)
    restart = np.ones((1, 1), np.float32)
    rows = []
    for t in range(STEPS):
        action = controller.act(source.parameters[None], z, c, h).astype(np.float32)
        draws = (np.float32(ask["tau"]), ask["uniform"][t : t + 1], ask["noise"][t : t + 1])
        after, _, _, h, c = (value.numpy() for value in step(action, z, restart, h, c, *draws))
        row = {"z_before": z, "action": action, "z": after, "h": h, "c": c, "output": rnn.head(h).numpy()}
        rows.append({name: value[0] for name, value in row.items()})
        z, restart = after, np.zeros_like(restart)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def states(answer: dict, name: str) -> np.ndarray:
    """One quantity of the JavaScript's steps along Keras' z and actions, (STEPS, ...)."""
    return np.float32([row[name] for row in answer["states"]])


def test_frames_are_kerass_to_one_grey_level(both):
    expected = to_uint8(both["source"].vae.decode(both["expected"]["z_before"][:20]).numpy()).reshape(20, -1)
    difference = np.abs(np.array(both["answer"]["frames"]) - expected.astype(int))
    assert expected.std() > 5
    assert difference.max() <= 1


def test_m_and_its_mixture_are_kerass_to_a_thousandth_over_200_steps(both):
    """Weights in float16 against the run's own in float32. The cell's state, of which M's output takes the tanh, is
    larger than 1 and differs by more; of the mixture's logits only the weights that they stand for count."""
    source, expected, answer = both["source"], both["expected"], both["answer"]
    heads, shape = len(source.rnn.heads), (STEPS, source.config.z_size, 3, source.config.mixtures)
    ours, theirs = states(answer, "output"), expected["output"]
    assert np.abs(states(answer, "h") - expected["h"]).max() < 1e-3
    np.testing.assert_allclose(states(answer, "c"), expected["c"], rtol=1e-3, atol=4e-3)
    logmix, mean, logstd = np.moveaxis(ours[:, heads:].reshape(shape), 2, 0)
    logmix_k, mean_k, logstd_k = np.moveaxis(theirs[:, heads:].reshape(shape), 2, 0)
    assert np.abs(mean - mean_k).max() < 1e-3
    assert np.abs(logstd - logstd_k).max() < 1e-3
    assert np.abs(tf.nn.softmax(logmix) - tf.nn.softmax(logmix_k)).max() < 1e-3
    if source.end_head:
        end, end_k = (1 / (1 + np.exp(-output[:, 0])) for output in (ours, theirs))
        assert np.abs(end - end_k).max() < 1e-3


def test_controller_acts_as_in_numpy(both):
    config, answer = both["source"].config, both["answer"]
    h, c = (np.concatenate([np.zeros((1, config.rnn_units)), states(answer, name)[:-1]]) for name in ("h", "c"))
    params = np.tile(both["source"].parameters, (STEPS, 1))
    expected = Controller.of(config).act(params, both["expected"]["z_before"], c, h)
    np.testing.assert_allclose(states(answer, "action"), expected, atol=1e-5)


def test_uncertainty_is_the_mean_standard_deviation_of_the_mixture(both):
    source = both["source"]
    output, tau = states(both["answer"], "output"), source.config.temperature
    logmix, mean, logstd = (part.numpy() for part in source.rnn.split(output))
    weights = tf.nn.softmax(logmix / tau).numpy()
    centre = (weights * mean).sum(-1)
    variance = (weights * (mean**2 + tau * np.exp(2 * logstd))).sum(-1) - centre**2
    np.testing.assert_allclose(states(both["answer"], "uncertainty"), np.sqrt(variance).mean(-1), rtol=1e-4)


def test_same_draws_give_the_same_dream(both):
    """Keras with the page's rounded weights: unrounded ones choose other components sooner or later."""
    dreamt = np.array([row["z"] for row in both["answer"]["dream"]])
    np.testing.assert_allclose(dreamt, both["same"]["z"], atol=1e-3)


def test_same_draws_give_the_same_ends(both):
    source, answer = both["source"], both["answer"]
    if not source.end_head:
        assert not any(row["ended"] for row in answer["drawn"])
        return
    model = WorldModel(None, SimpleNamespace(end_weight=END_WEIGHT), dream_end="draw")
    uniform = np.random.default_rng(5).random((STEPS, source.config.z_size), np.float32)
    expected = model.ends(both["same"]["output"][:, :1], uniform).numpy()[:, 0]
    apart = [abs(row["probability"] - row["chance"]) > 2e-3 for row in answer["drawn"]]
    ended = np.array([row["ended"] for row in answer["drawn"]])
    np.testing.assert_array_equal(ended[apart], expected[apart])
    assert sum(apart) > 0.9 * STEPS and 5 < ended.sum() < STEPS - 5


def test_weights_of_a_run_are_at_most_5_mb(site):
    for name in SHIPPED:
        assert 1e6 < (site / "runs" / f"{name}.js").stat().st_size < 5e6


def test_kernel_is_compiled_from_its_source(site, tmp_path):
    compiler = need_program("wat2wasm")
    subprocess.run([compiler, site / "kernel.wat", "-o", tmp_path / "kernel.wasm"], check=True)
    letters = re.findall(r'^  "([A-Za-z0-9+/=]+)"', (site / "kernel.js").read_text(), re.MULTILINE)
    assert base64.b64decode("".join(letters)) == (tmp_path / "kernel.wasm").read_bytes()


def test_pack_keeps_float16_and_bytes():
    arrays = {"a": np.float32([[1.5, -2.25, 1e-7]]), "b": np.uint8([3, 250]), "c": np.float32([65504.0])}
    packed = weights.pack(arrays)
    raw = zlib.decompress(base64.b85decode(packed["text"])[: packed["bytes"]])
    assert packed["arrays"] == [["a", [1, 3], "f2"], ["c", [1], "f2"], ["b", [2], "u1"]]
    halves = np.frombuffer(raw[:8], np.uint8).reshape(2, 4)[::-1].T.copy().view("<f2").ravel()
    np.testing.assert_array_equal(halves, np.float16([1.5, -2.25, 1e-7, 65504.0]))
    assert raw[8:] == bytes([3, 250])


@pytest.mark.parametrize("missing", ["vae.weights.h5", "rnn.weights.h5", "initial_z.npz"])
def test_a_run_without_its_models_is_one_line(tmp_path, missing):
    run = copy_of("carracing", tmp_path / "run")
    (run / missing).unlink()
    with pytest.raises(UserError, match=rf"{missing} is missing; make it with: python train_"):
        build([run], tmp_path / "site")


def test_a_run_without_frames_or_agent_is_one_line(tmp_path):
    run = copy_of("carracing", tmp_path / "run")
    shutil.rmtree(run / "controller")
    with pytest.raises(UserError, match="holds no real frames"):
        build([run], tmp_path / "site")


def test_another_tasks_heads_are_one_line(tmp_path):
    """M's weights of CarRacing in a run of Doom."""
    run = copy_of("doom", tmp_path / "run")
    shutil.copy(ROOT / "pretrained" / "carracing" / "rnn.weights.h5", run / "rnn.weights.h5")
    with pytest.raises(UserError, match="M of 512 units for doom"):
        build([run], tmp_path / "site")


def test_the_help_begins_with_the_command():
    assert run_script("tools.page", "--help").stdout.startswith("usage: python -m tools.page ")


def test_runs_of_one_name_are_one_line(tmp_path):
    with pytest.raises(UserError, match="tells runs by their folders' names"):
        build([tmp_path / "a" / "doom", tmp_path / "b" / "doom"], tmp_path / "site")


def test_a_recorded_run_shows_its_recording(car_run, tmp_path):
    run = shutil.copytree(car_run, tmp_path / "run", ignore=shutil.ignore_patterns("controller"))
    source = sources.read(run)
    recorded = read_episode(recordings(run, source.config.total_episodes)[0])[0]
    np.testing.assert_array_equal(source.frames[[0, -1]], recorded[[0, -1]])
    assert source.parameters is None and "first recording" in source.frames_of


def test_an_agents_recording_is_not_called_random(tmp_path):
    config = small()
    agent = "an earlier agent's play"
    for policy, player in (("release", "random play"), ("controller", agent), ("curious", agent)):
        for index in range(2):
            episode_of(tmp_path, index, config, round=2, policy=policy)  # of which a share may be random
        _, which = sources.real_frames(tmp_path, config, None, None, None)
        assert which == f"the run's first recording, 5 frames of {player}"


def test_of_tests_of_one_kind_that_of_most_episodes_is_shown(tmp_path):
    config = tasks.preset("doom", "paper")
    for env, episodes, mean in (("real", 100, 900.0), ("real", 5, 1.0), ("dream", 3, 2.0), ("dream", 100, 1000.0)):
        row = results.identity(config, env=env) | {"mean": mean, "std": 1.0, "episodes": episodes}
        results.add(tmp_path / "results.json", row)
    found = sources.scores(tmp_path, config)
    assert [(entry["where"], entry["mean"]) for entry in found if entry["by"] == "ours"] == [
        ("dream", 1000.0),
        ("real", 900.0),
    ]
    assert [entry["where"] for entry in found if entry["by"] == "paper"] == ["dream", "real"]


@pytest.mark.parametrize(
    ("task", "changes", "said"),
    [
        ("carracing", {"rnn_steps": 300}, "300 steps of the published 4,000 and loses the road"),
        ("doom", {"rnn_steps": 2680}, "2,680 steps of the published 24,400."),
        ("doom", {}, ""),
        ("doom", {"rnn_steps": 300, "untrained": "rnn"}, ""),
        ("doom", {"rnn_steps": 300, "untrained": "vae+rnn"}, ""),
        ("doom", {"rnn_steps": 300, "round": 2}, ""),
    ],
)
def test_an_m_of_fewer_steps_than_the_papers_says_so(task, changes, said):
    config = dataclasses.replace(tasks.preset(task, "paper"), **changes)
    source = sources.Source(config, *[None] * (len(dataclasses.fields(sources.Source)) - 1))
    assert said in source.short_training and bool(said) == bool(source.short_training)


def test_controls_name_every_number_of_an_action():
    for task in tasks.TASKS.values():
        row = task.controls
        assert len(row.actions) == task.action_size
        assert {key.action for key in row.keys} == set(range(len(row.actions)))
        squashed = [np.clip(a.scale * np.linspace(-1, 1, 9) + a.offset, a.low, a.high) for a in row.actions]
        outputs = np.repeat(np.linspace(-1, 1, 9)[:, None], len(row.actions), axis=1)
        np.testing.assert_allclose(np.stack(squashed, axis=1), task.squash(outputs, np))


@pytest.mark.parametrize("heads", ["end+reward", "end", "reward", "none"])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_an_environment_of_gymnasiums_is_played_by_its_c(tmp_path, env_id, heads):
    """A choice is the greatest of C's numbers, as in the game."""
    node = need_program("node", "nodejs")
    source = sources.read(random_run(tmp_path / "run", f"gymnasium:{env_id}", heads=heads, env="real"))
    build([tmp_path / "run"], tmp_path / "site")
    rng, config = np.random.default_rng(5), source.config
    ask = {name: rng.random((30, config.z_size)).tolist() for name in ("uniform", "noise")}
    ask["z"] = rng.standard_normal((30, config.z_size)).tolist()
    ask |= {"tau": 1.0, "action": rng.random((30, source.actions)).tolist()}
    command = [node, ROOT / "tests/page_numbers.js", tmp_path / "site", "run"]
    done = subprocess.run(command, input=json.dumps(ask), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    h, c = (np.concatenate([np.zeros((1, config.rnn_units)), states(answer, name)[:-1]]) for name in ("h", "c"))
    params = np.tile(source.parameters, (30, 1))
    expected = Controller.of(config).act(params, np.array(ask["z"]), c, h)
    assert np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(states(answer, "action"), expected, atol=1e-5)
    assert source.end_head == ("end" in heads)
    assert all(0 <= row["end"] <= 1 if source.end_head else row["end"] is None for row in answer["dream"])


def random_run(run: Path, task: str, **flags) -> Path:
    """A run with models that have learnt nothing."""
    config = run_dir.open_run(run, {"task": task, "preset": "smoke", "max_frames": 40, **flags})
    for model, name in ((make_vae(config), "vae"), (make_rnn(config), "rnn")):
        save_weights(model, run / f"{name}.weights.h5")
    starts = np.zeros((10, config.z_size), np.float32)
    save_arrays(run / "initial_z.npz", {"mu": starts, "logvar": starts}, {})
    parameters = np.random.default_rng(1).normal(0, 0.2, Controller.of(config).num_params).tolist()
    best = {"generation": None, "score": 0.0, "parameters": parameters, "made_from": {}}
    storage.write_text(run / "controller" / "best.json", json.dumps(best))
    return run


def test_a_task_without_a_row_gets_the_arrow_keys():
    row = plain("Swimmer-v5", 2, 20)
    assert row.fps == 20 and row.title == "Swimmer-v5" and [key.action for key in row.keys] == [0, 0, 1, 1]


def copy_of(name: str, run: Path) -> Path:
    """What the page needs of a shipped run."""
    run.mkdir()
    for part in ("config.json", "vae.weights.h5", "rnn.weights.h5", "initial_z.npz"):
        shutil.copy(ROOT / "pretrained" / name / part, run / part)
    shutil.copytree(ROOT / "pretrained" / name / "controller", run / "controller")
    return run
