"""The page of dreams: its arithmetic against Keras, in Node."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, SHIPPED, need_program
from small_run import add_agent

from controller.policy import Controller
from doom_rnn.dream import Randomness
from tools.page import source as sources
from tools.page.__main__ import build
from world_models import tasks
from world_models.pictures import to_uint8
from world_models.runs import weights
from world_models.runs.begin import begin
from world_models.runs.run import Run
from world_models.world_model import WorldModel, make_rnn, make_vae

STEPS = 200


def page_numbers(site: Path, name: str, ask: dict) -> dict:
    """What the page's JavaScript makes of given numbers."""
    command = [need_program("node", "nodejs"), ROOT / "tests/page_numbers.js", site, name]
    text = json.dumps({name: np.asarray(value).tolist() for name, value in ask.items()})
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session", params=SHIPPED)
def both(request, site) -> dict:
    """A run, what Keras makes of 200 steps of its dream, and what the page's JavaScript makes of the same numbers."""
    source = sources.read(Run(ROOT / "pretrained" / request.param))
    config, rnn = source.config, source.rnn
    rng = np.random.default_rng(5)
    shape = (STEPS, config.z_size)
    ask = {"tau": config.temperature, "uniform": rng.random(shape, np.float32)}
    ask["noise"] = rng.standard_normal(shape, np.float32)
    first = source.starts[0][:1].astype(np.float32)
    expected = walk(source, first, ask)
    ask |= {"z": expected["z_before"], "action": expected["action"]}
    answer = page_numbers(site, request.param, ask)
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
    if heads:
        end, end_k = (1 / (1 + np.exp(-output[:, 0])) for output in (ours, theirs))
        assert np.abs(end - end_k).max() < 1e-3


def check_actions(source, answer: dict, z: np.ndarray) -> np.ndarray:
    """C in NumPy acts as the JavaScript's along z; its actions."""
    h, c = (np.pad(states(answer, name)[:-1], [(1, 0), (0, 0)]) for name in ("h", "c"))
    expected = Controller.of(source.config).act(np.tile(source.parameters, (len(z), 1)), z, c, h)
    np.testing.assert_allclose(states(answer, "action"), expected, atol=1e-5)
    return expected


def test_controller_acts_as_in_numpy(both):
    check_actions(both["source"], both["answer"], both["expected"]["z_before"])


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


def random_run(path: Path, task: str, **flags) -> Run:
    """A run with models that have learned nothing."""
    run = begin(path, {"task": task, "preset": "smoke", "max_frames": 40, **flags})
    for model, name in ((make_vae(run.config), "vae"), (make_rnn(run.config), "rnn")):
        weights.save(model, run, f"{name}.weights.h5")
    starts = np.zeros((10, run.config.z_size), np.float32)
    with run.write("initial_z.npz") as tmp, open(tmp, "wb") as file:
        np.savez(file, mu=starts, logvar=starts)
    add_agent(run)
    return run


def made_up(source, steps: int = 30) -> dict:
    """Draws, z and actions."""
    rng, shape = np.random.default_rng(5), (steps, source.config.z_size)
    ask = {"tau": 1.0, "uniform": rng.random(shape), "noise": rng.random(shape), "z": rng.standard_normal(shape)}
    return ask | {"action": rng.random((steps, tasks.get(source.config.task).action_size))}


def test_a_dream_s_dropout_masks_weigh_what_each_gate_of_m_sees(tmp_path):
    """Keras with the same masks gives the same states; the page's own masks have the run's rate and a mean of 1."""
    run = random_run(tmp_path / "run", "gymnasium:CartPole-v1", heads="end", play_in="real", dream_dropout=0.3)
    source = sources.read(run)
    build([run.path], tmp_path / "site")
    ask, masks = made_up(source), Randomness(7).dropout(source.config)
    answer = page_numbers(tmp_path / "site", "run", ask | {"dropout": masks.ravel()})
    h = c = np.zeros((1, source.config.rnn_units), np.float32)
    for t, state in enumerate(answer["states"]):
        first = np.full((1, 1), float(t == 0), np.float32)
        step = np.float32(ask["z"][t][None]), np.float32(ask["action"][t][None]), first, (h, c)
        plain, _ = source.rnn.step(*step)
        h, c = (value.numpy() for value in source.rnn.step(*step, masks[None]))
        np.testing.assert_allclose(state["h"], h[0], atol=1e-3)
        assert np.abs(plain - h).max() > 0.01
    own = np.array(answer["masks"])
    assert len(own) == masks.size and set(np.round(own, 4)) == {0, np.round(1 / 0.7, 4)}
    assert own.mean() == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(
    ("env_id", "heads"),
    [("CartPole-v1", "end+reward"), ("CartPole-v1", "none"), ("Pendulum-v1", "end"), ("Pendulum-v1", "reward")],
)
def test_an_environment_of_gymnasiums_is_played_by_its_c(tmp_path, env_id, heads):
    """A choice is the greatest of C's numbers, as in the game."""
    source = sources.read(random_run(tmp_path / "run", f"gymnasium:{env_id}", heads=heads, play_in="real"))
    build([tmp_path / "run"], tmp_path / "site")
    ask = made_up(source)
    answer = page_numbers(tmp_path / "site", "run", ask)
    assert np.ptp(check_actions(source, answer, ask["z"]), axis=0).max() > 0.1
    ends = [row["end"] for row in answer["dream"]]
    assert all(0 <= end <= 1 for end in ends) if "end" in heads else set(ends) == {None}
