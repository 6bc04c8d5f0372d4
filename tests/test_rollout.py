"""The driver: which lane plays which episode, what watchers see, and lanes of real CarRacing."""

from dataclasses import replace

import numpy as np
import pytest
from small_run import make_run, size_of, small

from controller import rollout
from controller.lanes import RealLanes, make_lanes
from controller.policy import Controller
from controller.rollout import Watcher
from controller.watchers import Progress, Surprise
from rnn import mdn
from world_models.jobs import Jobs
from world_models.mpi import Alone
from world_models.stages.recording import Episode, Recorder
from world_models.world_model import WorldModel, make_rnn, make_vae

CONFIG = small("carracing", max_frames=30, lanes=2)
STILL, FORWARD = (0.0, -9.0, 9.0), (0.0, 0.5, -9.0)  # biases of steer, gas, brake, before C's tanh
SEEDS = [12, 17, 13]


@pytest.fixture(scope="module")
def model():
    return WorldModel(make_vae(CONFIG), make_rnn(CONFIG))


def agents(biases) -> np.ndarray:
    """(3, P), parameters of a car that does the same in every step."""
    params = np.zeros((3, size_of(CONFIG)))
    params[:, :3] = biases
    return params


@pytest.fixture(scope="module")
def lanes(model):
    found = RealLanes(replace(CONFIG, z="mean"), model, 2, to_the_end=True, surprise=True)
    yield found
    found.close()


class Log(Watcher):
    """Keeps every call."""

    def __init__(self):
        self.started, self.ended, self.steps = [], [], []

    def start(self, lane, job):
        self.started.append((lane, job))

    def step(self, step):
        self.steps.append(step)

    def end(self, lane, job, total, steps):
        self.ended.append((lane, job, total, steps))
        return total + 1000


def test_each_episode_is_played_once_and_the_watchers_decide_its_return(lanes):
    log, done = Log(), []
    watchers = [log, Progress(lambda *seen: done.append(seen))]
    returns, steps = rollout.evaluate(Alone(), lanes, agents(FORWARD), SEEDS, watchers)
    assert sorted(job for _, job in log.started) == sorted(job for _, job, *_ in log.ended) == [0, 1, 2]
    assert steps.tolist() == [30] * 3 and len(log.steps) == 60  # two lanes: the third episode follows the first two
    assert sorted(done) == [(job, returns[job], 30) for job in range(3)]
    assert [returns[job] for _, job, *_ in log.ended] == [total + 1000 for *_, total, _ in log.ended]


def test_an_episode_depends_neither_on_its_lane_nor_on_the_others(lanes):
    together, _ = rollout.evaluate(Alone(), lanes, agents(FORWARD), SEEDS)
    alone = [rollout.evaluate(Alone(), lanes, agents(FORWARD)[:1], [seed])[0][0] for seed in SEEDS]
    assert together.tolist() == alone and len(set(alone)) > 1


def test_what_is_recorded_is_what_the_environment_returns(lanes):
    """The recorded actions, played again, give the recorded frames and rewards."""
    recorded = {}
    recorder = Recorder(lambda job, arrays: recorded.update({job: arrays}))
    jobs = Jobs(Alone(), 3)
    results = rollout.play(lanes, jobs, agents(FORWARD), SEEDS, [recorder], noises=[0.0, 0.3, 0.0])
    assert np.ptp(recorded[1]["action"][:, 0]) > 0.01 and np.ptp(recorded[0]["action"][:, 0]) < 1e-6
    for job, seed in enumerate(SEEDS):
        frame, _ = lanes.envs[0].reset(seed=seed)
        again = Episode()
        for action in recorded[job]["action"]:
            following, *outcome, _ = lanes.envs[0].step(action)
            again.add(frame, action, *outcome)
            frame = following
        for name, array in again.arrays().items():
            np.testing.assert_array_equal(array, recorded[job][name], name)
        assert results[job] == (pytest.approx(recorded[job]["reward"].sum(dtype=np.float64), rel=1e-5), 30)


def test_curiosity_is_ms_mean_surprise_in_a_step(lanes, model):
    """M's negative log-likelihood of z, from the state before it; 0 in the first step."""
    log, expected = Log(), [0.0]
    returns, steps = rollout.evaluate(Alone(), lanes, agents(STILL)[:1], SEEDS[:1], [log, Surprise(2)])
    [(lane, _)] = log.started
    for step in log.steps[1:]:
        mu, _ = model.vae.encode(step.frames)
        mixture = mdn.mixture(*model.rnn.split(model.rnn.head(np.asarray(step.h))))
        expected.append(float(-np.mean(mixture.log_prob(mu)[lane])))
    np.testing.assert_allclose([step.surprise[lane] for step in log.steps], expected, rtol=1e-4)
    assert steps.tolist() == [30] and returns[0] == pytest.approx(np.mean(expected), rel=1e-4)


def test_z_is_mu_with_z_mean(model):
    """Another seed draws other noise, which decides the action only where z is sampled."""
    frames, params = np.full((2, 64, 64, 3), 90, np.uint8), np.random.default_rng(0).normal(size=(2, size_of(CONFIG)))
    acted = {}
    for z in ("mean", "sampled"):
        found = RealLanes(replace(CONFIG, z=z), model, 2)
        mu, _ = model.vae.encode(frames)
        for seed in (1, 2):
            for lane in range(2):
                found.start(lane, params[lane], seed)
            found.frames = frames.copy()
            acted[z, seed] = found.advance().action
        found.close()
        h = np.zeros((2, CONFIG.rnn_units))
        if z == "mean":
            expected = Controller.of(CONFIG).act(params, mu.numpy(), h, h)
            np.testing.assert_allclose(acted[z, 1], expected, atol=1e-5)
    np.testing.assert_array_equal(acted["mean", 1], acted["mean", 2])
    assert np.abs(acted["sampled", 1] - acted["sampled", 2]).max() > 1e-3


def test_scores_are_in_float32_whatever_the_agents_act_in(tmp_path):
    run = make_run(tmp_path / "run", z_size=32, rnn_units=64, lanes=2)
    params = np.random.default_rng(0).normal(size=(2, size_of(run.config)))
    found = {}
    for dtype in ("float32", "bfloat16"):
        acting = make_lanes(run, replace(run.config, dtype=dtype))
        scoring = make_lanes(run, replace(run.config, dtype="float32"), envs=acting.envs)
        for name, these in ((dtype, acting), (f"scored, {dtype}", scoring)):
            rollout.evaluate(Alone(), these, params, SEEDS[:2])
            found[name] = these.h.numpy().tolist()  # at the end: returns differ with tiles, not with digits
        acting.close()
    assert found["scored, float32"] == found["scored, bfloat16"] == found["float32"] != found["bfloat16"]
