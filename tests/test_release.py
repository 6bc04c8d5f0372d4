"""The release's files: its equations, and how they may come: in parts, or broken, which an error names."""

import json
import operator
from pathlib import Path

import numpy as np
import pytest

from tools.convert import export_run, import_run
from tools.release import read_rnn, to_keras, to_release
from world_models import tasks
from world_models.config import UserError
from world_models.runs.begin import begin

# An M that is quick to write by hand: inputs 4 + 3, outputs 4 * 3 * 2.
SMALL = dict(task="carracing", z_size=4, rnn_units=5, mixtures=2)
SMALL_SHAPES = {"output_w": (5, 24), "output_b": (24,), "lstm_kernel": (12, 20), "lstm_bias": (20,)}


def write(path: Path, value) -> Path:
    path.write_text(json.dumps(value))
    return path


def integers(rng, shape) -> list:
    return rng.integers(-1500, 1500, shape).tolist()


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def release_step(w: dict, z, action, restart, c, h, doom: bool):
    """M as carracing/rnn/rnn.py and doomrnn/doomrnn.py run it, for a batch: (c, h), logmix, mean, logstd
    (B * Z, 5), and Doom's restart logit (B,)."""
    x = np.concatenate([z, action, restart] if doom else [z, action], axis=1)
    if doom:
        c, h = np.where(restart > 0.5, 0.0, c), np.where(restart > 0.5, 0.0, h)
    i, j, f, o = np.split(np.concatenate([x, h], axis=1) @ w["lstm_kernel"] + w["lstm_bias"], 4, axis=1)
    c = c * sigmoid(f + 1.0) + sigmoid(i) * np.tanh(j)
    h = np.tanh(c) * sigmoid(o)
    output = h @ w["output_w"] + w["output_b"]
    logit = output[:, 0]
    logmix, mean, logstd = np.split(output[:, 1:].reshape(-1, 15) if doom else output.reshape(-1, 15), 3, axis=1)
    logmix = logmix - np.log(np.exp(logmix).sum(axis=1, keepdims=True))
    return c, h, logmix, mean, logstd, logit


@pytest.mark.parametrize("task", tasks.TASKS)
def test_m_is_the_releases_equations(task, tmp_path, rng):
    import tensorflow as tf

    doom = task == "doom"
    units, inputs, outputs, z_size, actions = (512, 66, 961, 64, 1) if doom else (256, 35, 480, 32, 3)
    shapes = {"output_w": (units, outputs), "output_b": (outputs,)}
    shapes |= {"lstm_kernel": (inputs + units, 4 * units), "lstm_bias": (4 * units,)}
    written = {name: integers(rng, shape) for name, shape in shapes.items()}
    order = ("lstm_kernel", "lstm_bias", "output_w", "output_b") if doom else tuple(shapes)
    path = write(tmp_path / "rnn.json", [written[name] for name in order])
    rnn = read_rnn(path, tasks.preset(task, "paper"))
    weights = {name: np.array(values) / 10000.0 for name, values in written.items()}

    steps, batch = 50, 3
    z = rng.normal(size=(steps, batch, z_size)).astype(np.float32)
    action = rng.uniform(-1, 1, (steps, batch, actions)).astype(np.float32)
    # An episode starts inside a sequence in the release's Doom alone, whose episodes it joins.
    restart = (rng.random((steps, batch, 1)) < (0.1 if doom else 0)).astype(np.float32)
    assert (0 < restart[1:].sum() < steps * batch) == doom
    start = rng.normal(0, 0.3, (2, batch, units)).astype(np.float32)
    h, c = tf.constant(start[0]), tf.constant(start[1])
    old_h, old_c = start.astype(np.float64)
    unrolled, (last_h, last_c) = rnn.unroll(*map(tf.constant, (z, action, restart)), (h, c))
    step = tf.function(rnn.step)
    for t in range(steps):
        frame = (z[t], action[t], restart[t])
        h, c = step(*map(tf.constant, frame), (h, c))
        old_c, old_h, *mixture, logit = release_step(weights, *frame, old_c, old_h, doom)
        np.testing.assert_allclose(h, old_h, rtol=0, atol=1e-5)
        np.testing.assert_allclose(c, old_c, rtol=0, atol=1e-5)
        for output in (rnn.head(h), unrolled[t]):
            logmix, mean, logstd = rnn.split(output)
            assert logmix.shape == (batch, z_size, 5)
            for found, expected in zip((tf.nn.log_softmax(logmix), mean, logstd), mixture, strict=True):
                np.testing.assert_allclose(found, expected.reshape(batch, z_size, 5), rtol=0, atol=1e-5)
            if doom:
                np.testing.assert_allclose(rnn.end_logit(output)[:, 0], logit, rtol=0, atol=1e-5)
    np.testing.assert_allclose(last_h, old_h, rtol=0, atol=1e-5)
    np.testing.assert_allclose(last_c, old_c, rtol=0, atol=1e-5)


def test_gates_by_hand():
    # One input, one unit: rows x, h; columns i, j, f, o.
    kernel = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    x, h, bias = to_keras(kernel, np.array([10, 20, 30, 40]), inputs=1)
    assert x.tolist() == [[1, 3, 2, 4]] and h.tolist() == [[5, 7, 6, 8]]  # i, f, j, o
    assert bias.tolist() == [10, 31, 20, 40]
    back, bias = to_release(x, h, bias)
    assert back.tolist() == kernel.tolist() and bias.tolist() == [10, 20, 30, 40]


def small_rnn(rng) -> list:
    return [integers(rng, shape) for shape in SMALL_SHAPES.values()]


def put(number: int, place: int, value):
    """Sets an item of one of the arrays."""
    return lambda arrays: operator.setitem(arrays[number], place, value)


BROKEN = {
    "a row too few": (lambda arrays: arrays[2].pop(), "lstm_kernel", "(12, 20)", "(11, 20)"),
    "a short row": (lambda arrays: arrays[0][3].pop(), "output_w", "(5, 24)", "inhomogeneous"),
    "a word": (put(3, 4, "four"), "lstm_bias", "(20,)", "could not convert string to float"),
    "nan": (put(1, 2, float("nan")), "output_b", "(24,)", "NaN"),
    "no whole numbers": (put(1, 2, 0.125), "output_b", "whole", "0.125"),
    "one array too few": (list.pop, "lstm_bias", "4 arrays", "3 arrays"),
    "one too many": (lambda arrays: arrays.append([1]), "lstm_bias", "4 arrays", "5 arrays"),
}


@pytest.mark.parametrize(
    ("text", "words"),
    [("[[1, 2], [3", "not valid JSON"), ("[] x", "not valid JSON"), ("{}", "found dict"), ("", "not valid JSON")],
)
def test_a_file_that_is_no_list_is_named(text, words, tmp_path):
    (tmp_path / "rnn.json").write_text(text)
    with pytest.raises(UserError, match=rf"rnn\.json.*{words}"):
        import_run(tmp_path / "run", {"rnn": tmp_path / "rnn.json"}, SMALL)


@pytest.mark.parametrize("spoil, name, expected, found", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_named_and_nothing_is_written(spoil, name, expected, found, tmp_path, rng):
    arrays = small_rnn(rng)
    spoil(arrays)
    write(tmp_path / "rnn.json", arrays)
    z = write(tmp_path / "initial_z.json", [integers(rng, (2, 4)), integers(rng, (2, 4))])
    run = tmp_path / "run"
    with pytest.raises(UserError) as caught:
        import_run(run, {"initial_z": z, "rnn": tmp_path / "rnn.json"}, SMALL)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "rnn.json")) and "\n" not in message
    assert all(part in message for part in (name, expected, found)), message
    assert not run.exists()


@pytest.mark.parametrize(
    "part, value, words",
    [
        ("controller", [[0.5] * 26, 1.0], ["--features zh", "(30,)", "(26,)"]),
        ("controller", [[0.5] * 30], ["score", "2 arrays", "1 arrays"]),
        ("controller", [[0.5] * 30, None], ["score", "()", "NaN"]),
        ("initial_z", [[[1, 2, 3]], [[1, 2, 3, 4]]], ["mu", "(N, 4)", "(1, 3)"]),
        ("initial_z", [[[1, 2, 3, 4]], [[1, 2, 3, 4]] * 2], ["logvar", "(1, 4)", "(2, 4)"]),
        ("vae", [[1, 2]] * 22, ["enc_conv1/kernel", "(4, 4, 3, 32)", "(2,)"]),
    ],
)
def test_the_other_files_are_checked_too(part, value, words, tmp_path):
    path = write(tmp_path / "file.json", value)
    with pytest.raises(UserError) as caught:
        import_run(tmp_path / "run", {part: path}, SMALL)
    assert all(word in str(caught.value) for word in words), caught.value
    assert not (tmp_path / "run").exists()


def test_missing_file_and_no_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.json cannot be read"):
        import_run(tmp_path / "run", {"rnn": tmp_path / "none.json"}, SMALL)
    with pytest.raises(UserError, match="at least one of --vae, --rnn, --controller, --initial-z"):
        import_run(tmp_path / "run", {}, SMALL)


def test_parts_may_come_one_by_one_and_are_not_overwritten(tmp_path, rng):
    run = tmp_path / "run"
    z = write(tmp_path / "z.json", [integers(rng, (2, 4)), integers(rng, (2, 4))])
    rnn = write(tmp_path / "rnn.json", small_rnn(rng))
    with pytest.raises(UserError, match="give --task"):
        import_run(run, {"initial_z": z}, {})
    done = import_run(run, {"initial_z": z}, SMALL)
    assert "initial_z.npz" in done and "lacks vae, rnn, controller" in done
    there = sorted(p.name for p in run.iterdir() if p.name != ".lock")
    assert there == ["config.json", "initial_z.npz", "manifest.json"]
    # The same folder, without or with the flags it was made with; not with others.
    with pytest.raises(UserError, match=r"--rnn-units 6: .* was made with --rnn-units 5"):
        import_run(run, {"rnn": rnn}, {"rnn_units": 6})
    import_run(run, {"rnn": rnn}, {"rnn_units": 5})
    kept = {p.name: p.read_bytes() for p in run.iterdir() if p.name != ".lock"}
    assert sorted(kept) == ["config.json", "initial_z.npz", "manifest.json", "rnn.weights.h5"]
    agent = write(tmp_path / "c.json", [[0.25] * 30, 1.5])
    with pytest.raises(UserError, match=r"rnn\.weights\.h5 exists"):
        import_run(run, {"controller": agent, "rnn": rnn}, {})
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.name != ".lock"} == kept
    # Out again: what is there, and a word on what is not.
    said = export_run(run, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["initial_z.json", "rnn.json"]
    assert "does not have vae.weights.h5, controller/best.json" in said
    assert "--z-size 4 --rnn-units 5 --mixtures 2" in said
    assert json.loads((tmp_path / "out" / "rnn.json").read_text()) == json.loads(rnn.read_text())
    assert json.loads((tmp_path / "out" / "initial_z.json").read_text()) == json.loads(z.read_text())
    with pytest.raises(UserError, match=r"rnn\.json exists"):
        export_run(run, tmp_path / "out")


def test_features_decide_the_number_of_parameters(tmp_path, rng):
    parameters = rng.normal(size=99).round(4).tolist()
    path = write(tmp_path / "agent.json", [parameters, 631.5])
    done = import_run(tmp_path / "run", {"controller": path}, {"task": "carracing", "features": "z"})
    assert "wrote controller/best.json; it lacks vae, rnn" in done
    assert json.loads((tmp_path / "run" / "controller" / "best.json").read_text())["parameters"] == parameters


def test_v_of_other_pixels_needs_the_flag(tmp_path):
    run = tmp_path / "run"
    begin(run, {"task": "carracing", "preset": "paper"})
    with pytest.raises(UserError, match="made with --pixels paper"):
        import_run(run, {"vae": tmp_path / "vae.json"}, {})
