"""The measurements: what they measure and report, not how fast it is."""

import dataclasses
import sys
import types

import numpy as np
import pytest

from controller import agent
from tools import bench, peer, speeds, training_speeds
from world_models import tasks
from world_models.config import UserError
from world_models.runs import run_dir
from world_models.world_model import make_rnn, make_vae


def test_rates_are_units_over_time(monkeypatch):
    clock = iter([0.0, 2.0, 10.0, 11.0, 20.0, 24.0])
    monkeypatch.setattr(speeds.time, "perf_counter", lambda: next(clock))
    assert speeds.median_rate(lambda: 8, repeats=3) == 4.0  # of 4, 8 and 2; the warm-up is not timed


def test_agents_are_measured_on_ranks_of_their_own(tmp_path):
    speeds.make_run(tmp_path / "car", "carracing")
    found = speeds.agents(tmp_path / "car", 2, 4)
    assert found["rate"] > 0 and found["memory"] > 100
    assert sum(found["split"].values()) == pytest.approx(1, abs=0.01)


def test_report_states_ratios():
    figures = {
        "env": {"gymnasium": 100, "v0": 4000, "v3": 3000, "doom": 500},
        "agent": {
            "ranks_1": 1000,
            "ranks_2": 1900,
            "ranks_2_bfloat16": 2500,
            "batch_1": 500,
            "split": {"env": 0.4, "models": 0.5, "waiting": 0.1},
        },
        "memory": {"rank_mb": 900},
        "dream": {"steps_per_s": 2 * bench.PAPER["doom"], "single": 900, "vector": 27_000},
        "train": {
            "vae_frames_per_s": 300,
            "rnn_tokens_per_s": 99_900,
            "vae_flops": 6e10,
            "rnn_flops": 3e10,
            "matmul_flops": 1e11,
        },
    }
    figures["peer"] = {"envpool_env": 970, "envpool_agent": 400}
    figures["score"] = {"seconds_to_600": 1200.0, "seconds_to_700": 2400.0, "seconds_to_800": None}
    text = bench.report(figures)
    for words in (
        "40.0 x",
        "30.0 x",
        "1.90 x one rank",
        "3.8 x batch 1",
        "env 40%",
        "2.0 x the paper's",
        "60% of a large matrix product's",
        "1.00 s a step, 30% of the same",
        "30 x one environment",
        "ours are 2.5 x",
        "at most 56,142 s on 64 cores",
        "not in 200 generations",
    ):
        assert words in text


class FakeEnvPool:
    """As EnvPool's CarRacing-v3: frames uint8 (B, 96, 96, 3) of all environments at once; counts its steps."""

    steps = 0

    def __init__(self, name, env_type, num_envs, num_threads, seed):
        assert (name, env_type, num_threads) == ("CarRacing-v3", "gymnasium", 1)
        self.frames = np.random.default_rng(seed).integers(0, 255, (num_envs, 96, 96, 3), np.uint8)

    def reset(self):
        return self.frames, {}

    def step(self, action):
        assert action.shape == (len(self.frames), 3) and np.isfinite(action).all()
        FakeEnvPool.steps += 1
        count = len(self.frames)
        return self.frames, np.zeros(count), np.zeros(count, bool), np.zeros(count, bool), {}

    def close(self):
        self.frames = None


def test_a_peer_is_measured_with_the_same_v_m_and_c(tmp_path, monkeypatch):
    """EnvPool itself is no dependency; `python -m tools.peer --run DIR` measures it where it is installed."""
    monkeypatch.setitem(sys.modules, "envpool", types.SimpleNamespace(make=FakeEnvPool))
    monkeypatch.setattr(agent, "use_one_core", lambda: None)  # this process has begun to compute
    monkeypatch.setattr(peer, "WARM_UP", 1)
    monkeypatch.setattr(peer, "STEPS", 2)
    speeds.make_run(tmp_path / "car", "carracing")
    config = dataclasses.replace(run_dir.load(tmp_path / "car"), lanes=3)
    found = peer.rates(tmp_path / "car", config)
    assert found.keys() == {"envpool_env", "envpool_agent"} and FakeEnvPool.steps == 2 * (1 + peer.REPEATS * 2)
    assert min(found.values()) > 0


def test_a_peer_that_does_not_start_is_one_line(monkeypatch):
    def make(*_, **__):
        raise OSError("no data")

    monkeypatch.setitem(sys.modules, "envpool", types.SimpleNamespace(make=make))
    with pytest.raises(UserError, match="EnvPool is installed but does not start: no data"):
        peer.make_envs(2)


def test_products_of_a_forward_pass():
    vae, rnn = make_vae(tasks.preset("carracing", "paper")), make_rnn(tasks.preset("carracing", "paper"))
    down = 32 * 48 * 31**2 + 64 * 512 * 14**2 + 128 * 1024 * 6**2 + 256 * 2048 * 2**2
    up = 1024 * 128 * 25 + 128 * 64 * 25 * 5**2 + 64 * 32 * 36 * 13**2 + 32 * 3 * 36 * 30**2
    assert training_speeds.vae_products(vae) == down + 3 * 1024 * 32 + up
    assert training_speeds.rnn_products(rnn) == 4 * 256 * (32 + 3 + 256) + 256 * 15 * 32
