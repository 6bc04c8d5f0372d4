"""The page of dreams: its arithmetic against Keras, in Node."""

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT
from controller import policy
from doom_rnn.dream import Dream
from pictures import to_uint8
from tools.page import source as sources
from tools.page.__main__ import build

STEPS = 200
SHIPPED = ("doom", "carracing")


def need_program(*names: str) -> str:
    """A program's path; skips the test where it is missing, but fails in continuous integration."""
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        message = f"{' or '.join(names)} is not installed: the page's JavaScript is not tested"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The shipped agents' page."""
    out = tmp_path_factory.mktemp("site")
    build([ROOT / "pretrained" / name for name in SHIPPED], out)
    return out


@pytest.fixture(scope="session", params=SHIPPED)
def both(request, site) -> dict:
    """A run, what Keras makes of 200 steps of its dream, and what the page's JavaScript makes of the same numbers."""
    node = need_program("node", "nodejs")
    source = sources.read(ROOT / "pretrained" / request.param)
    config, rnn = source.config, source.rnn
    rng = np.random.default_rng(5)
    shape = (STEPS, config.z_size)
    ask = {"tau": config.temperature, "uniform": rng.random(shape, np.float32)}
    ask["noise"] = rng.standard_normal(shape, np.float32)
    first = source.starts[0][:1].astype(np.float32)
    expected = walk(source, first, ask)
    ask |= {"z": expected["z_before"], "action": expected["action"]}
    text = json.dumps({name: value if isinstance(value, float) else value.tolist() for name, value in ask.items()})
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
    step = tf.function(Dream(config, rnn).step)
    h = c = np.zeros((1, config.rnn_units), np.float32)
    restart = np.ones((1, 1), np.float32)
    rows = []
    for t in range(STEPS):
        x = policy.observe(z, c, h, config.features)
        sizes = (config.task, config.features, config.z_size, config.rnn_units)
        action = policy.act(source.parameters[None], x, *sizes).astype(np.float32)
        draws = (np.float32(ask["tau"]), ask["uniform"][t : t + 1], ask["noise"][t : t + 1])
        after, _, h, c = (value.numpy() for value in step(z, action, restart, h, c, *draws))
        row = {"z_before": z, "action": action, "z": after, "h": h, "c": c, "output": rnn.head(h).numpy()}
        rows.append({name: value[0] for name, value in row.items()})
        z, restart = after, np.zeros_like(restart)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def test_print(both):
    e, a, s = both["expected"], both["answer"], both["same"]
    for k in ("h", "c", "output", "action"):
        got = np.array([r[k] for r in a["states"]])
        d = abs(got - e[k])
        print(k, d.max(), np.sqrt((d**2).mean()), d.max(axis=1)[[0, 10, 50, 100, 199]])
    got = np.array([r["z"] for r in a["dream"]])
    print("dream vs f32", abs(got - e["z"]).max(axis=1)[[0, 1, 5, 10, 50, 100, 199]])
    print("dream vs f16", abs(got - s["z"]).max(axis=1)[[0, 1, 5, 10, 50, 100, 199]])
    f = to_uint8(both["source"].vae.decode(e["z_before"][:20]).numpy()).astype(int).reshape(20, -1)
    print("frames", abs(f - np.array(a["frames"])).max(), a["milliseconds"])
