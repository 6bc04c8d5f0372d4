"""The dream: one, a vector of them and the lanes of a search are the same; its film; Doom's stages in small."""

import json

import gymnasium as gym
import numpy as np
import pytest
from conftest import run_script
from gymnasium.utils.env_checker import check_env
from small_play import play_alone
from small_run import make_run, new_run, size_of

from controller import rollout
from controller.lanes import DreamLanes, make_lanes
from controller.policy import Controller
from doom_rnn.dream import Randomness, Starts
from doom_rnn.env import DreamEnv
from doom_rnn.vector import VectorDreamEnv
from world_models import tasks
from world_models.config import UserError
from world_models.mpi import Alone
from world_models.runs import episodes, weights
from world_models.runs.run import Run
from world_models.stages import film
from world_models.stages.film import dreams_along
from world_models.world_model import WorldModel, load_rnn, load_vae

DREAM = "doom_rnn:WorldModels/DoomRNN-v0"


def mortal_run(path, bias: float = -3.0, **changes) -> Run:
    """A Doom run whose dreams end after different numbers of steps; with a low bias of the end's logit, never."""
    run = make_run(path, "doom", z_size=16, rnn_units=24, max_frames=60, lanes=4, **changes)
    rnn = load_rnn(run)
    kernel, biases = rnn.head.get_weights()
    kernel[:, 0] = np.random.default_rng(0).normal(size=len(kernel)) * 20
    biases[0] = bias
    rnn.head.set_weights([kernel, biases])
    weights.save(rnn, run, "rnn.weights.h5")
    return run


@pytest.fixture(scope="module")
def mortal(tmp_path_factory):
    return mortal_run(tmp_path_factory.mktemp("mortal") / "run")


def test_environments_of_one_process_share_m_until_its_file_changes(tmp_path):
    run = make_run(tmp_path / "run", "doom")
    one, other = DreamEnv(run.path), DreamEnv(run.path)
    assert one.dreams._compiled is other.dreams._compiled
    rnn = load_rnn(run)
    rnn.head.bias.assign(rnn.head.bias + 1)
    weights.save(rnn, run, "rnn.weights.h5")
    assert DreamEnv(run.path).dreams._compiled is not one.dreams._compiled


def test_dreams_of_a_search_have_the_returns_and_lengths_of_single_dreams(mortal):
    """Nine dreams in four lanes: some follow others in a lane."""
    params = np.random.default_rng(1).normal(size=(9, size_of(mortal.config))) * 0.3
    seeds = [100 + k for k in range(9)]
    returns, steps = rollout.evaluate(Alone(), make_lanes(mortal), params, seeds)
    env = gym.make(DREAM, run=mortal.path).unwrapped
    alone = [play_alone(env, mortal.config, *each)[0] for each in zip(params, seeds, strict=True)]
    assert steps.tolist() == list(map(len, alone)) and {reward for rewards in alone for reward in rewards} == {1.0}
    assert returns.tolist() == steps.tolist() and len(set(steps)) > 2 and min(steps) < mortal.config.max_frames


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_seed_gives_the_same_dream_alone_in_the_vector_and_in_lanes(dropout, tmp_path):
    """20 steps of 3 dreams. Two of them have the same seed, and the same dropout masks."""
    run, same = mortal_run(tmp_path / "run", -1e4, dream_dropout=dropout), mortal_run(tmp_path / "plain", -1e4)
    config, controller, seeds = run.config, Controller.of(run.config), [7, 8, 7]
    params = np.random.default_rng(1).normal(size=(3, controller.num_params)) * 0.3
    params[2] = params[0]
    lanes = DreamLanes(config, WorldModel.load_dream(run), Starts(run), 3, segment=1)
    vector = gym.make_vec(DREAM, 3, run=run.path).unwrapped
    singles, plain = [DreamEnv(run.path) for _ in seeds], DreamEnv(same.path)
    seen = np.stack([env.reset(seed=seed)[0] for env, seed in zip(singles, seeds, strict=True)])
    np.testing.assert_array_equal(vector.reset(seed=seeds)[0], seen)
    np.testing.assert_array_equal(plain.reset(seed=7)[0], seen[0])  # dropout changes no other stream
    for lane, seed in enumerate(seeds):
        lanes.start(lane, params[lane], seed)
    masks = None if lanes.dropout is None else lanes.dropout.copy()
    if dropout:
        assert masks.shape == (3, 4, 16 + 24) and set(np.unique(masks)) == {0, np.float32(1 / 0.7)}
        assert (masks[0] == masks[2]).all() and np.mean(masks[0] != masks[1]) > 0.3
    for _ in range(20):
        z, c, h = np.split(seen, [16, 16 + 24], axis=1)
        action = controller.act(params, z, c, h)
        results = [env.step(one) for env, one in zip(singles, action, strict=True)]
        unlike = plain.step(action[0])[0]
        seen = np.stack([observation for observation, *_ in results])
        np.testing.assert_allclose(vector.step(action)[0], seen, atol=1e-4)
        lanes.advance()
        in_lanes = np.concatenate([lanes.z, lanes.c, lanes.h], axis=1)
        np.testing.assert_allclose(in_lanes, seen, atol=1e-4)
        np.testing.assert_array_equal(seen[0], seen[2])
        assert (np.abs(unlike - seen[0]).max() > 0.01) == bool(dropout)
    if dropout:
        np.testing.assert_array_equal(lanes.dropout, masks)


def test_the_film_of_a_dream_is_the_tests_dream(mortal):
    """Ten seeds, in as many lanes as the test has. The film has a frame for each step, and one before the first."""
    params = np.random.default_rng(2).normal(size=size_of(mortal.config)) * 0.3
    seeds = list(range(200, 210))
    returns, steps = rollout.evaluate(Alone(), make_lanes(mortal), np.tile(params, (10, 1)), seeds)
    assert len(set(steps)) > 2
    vae = load_vae(mortal)
    for seed, total, length in zip(seeds, returns, steps, strict=True):
        dreamed = film.dream(mortal, vae, params.tolist(), seed)
        assert (dreamed.total, len(dreamed.frames)) == (total, length + 1)
        assert dreamed.scores[0] == 0 and dreamed.scores[-1] == total


def test_the_vector_resets_what_the_mask_names_with_a_list_of_seeds(mortal):
    dreams = VectorDreamEnv(3, mortal.path)
    first = dreams.reset(seed=[4, 9, 4])[0]
    for lane, seed in enumerate((4, 9, 4)):
        np.testing.assert_array_equal(first[lane], DreamEnv(mortal.path).reset(seed=seed)[0])
    actions = np.zeros((3, 1), np.float32)
    before = dreams.step(actions)[0]
    mask = np.array([False, True, False])
    after = dreams.reset(seed=[None, 4, None], options={"reset_mask": mask})[0]
    np.testing.assert_array_equal(after[mask], first[[0]])
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert dreams.dreams.steps[:, 0].tolist() == [1, 0, 1]
    # A lane without a new seed begins its own stream's next dream, which differs from the one before.
    again = dreams.reset(options={"reset_mask": mask})[0]
    assert (again[1] != after[1]).any() and (again[~mask] == after[~mask]).all()
    # An integer seeds lane k with seed + k, as Gymnasium's vectors do.
    np.testing.assert_array_equal(dreams.reset(seed=3)[0][1], DreamEnv(mortal.path).reset(seed=4)[0])
    for seed, options, message in (
        ([1, 2], {}, "seed: expected 3 seeds, one for each dream, got 2"),
        (1, {"reset_mask": np.ones(2, bool)}, r"reset_mask: expected bool \(3,\), got bool \(2,\)"),
        (1, {"reset_mask": np.ones(3)}, r"reset_mask: expected bool \(3,\), got float64 \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            dreams.reset(seed=seed, options=options)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_vector_of_dreams_equals_single_ones_through_their_ends(mortal, mode):
    single = gym.make_vec(DREAM, 3, "sync", run=mortal.path, vector_kwargs={"autoreset_mode": mode})
    vector = gym.make_vec(DREAM, 3, run=mortal.path, autoreset_mode=mode)
    assert isinstance(vector, VectorDreamEnv)
    np.testing.assert_array_equal(vector.reset(seed=7)[0], single.reset(seed=7)[0])
    rng, ended = np.random.default_rng(0), 0
    for _ in range(130):
        actions = rng.uniform(-1, 1, (3, 1)).astype(np.float32)
        one, other = vector.step(actions), single.step(actions)
        for mine, theirs in zip(one[:4], other[:4], strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-3)
        over = one[2] | one[3]
        ended += over.sum()
        if over.any() and mode == "SameStep":
            np.testing.assert_array_equal(one[4]["_final_obs"], over)
            lane = int(np.flatnonzero(over)[0])
            np.testing.assert_allclose(one[4]["final_obs"][lane], other[4]["final_obs"][lane], atol=1e-3)
    assert ended >= 3


def test_a_vector_has_its_own_temperature(mortal):
    dreams = VectorDreamEnv(2, mortal.path, temperature=0.5)
    dreams.reset(options={"temperature": 2.0})
    assert dreams.dreams.temperature == 2.0
    with pytest.raises(ValueError, match="NextStep or SameStep"):
        VectorDreamEnv(2, mortal.path, autoreset_mode="Disabled")
    with pytest.raises(ValueError, match="DreamEnv draws one"):
        VectorDreamEnv(2, mortal.path, render_mode="rgb_array")


@pytest.mark.parametrize("task", ["doom", "carracing"])
def test_gymnasiums_checks_pass(task, tmp_path):
    run = make_run(tmp_path / "run", task)
    env = gym.make(f"doom_rnn:WorldModels/{tasks.get(task).dream_id}", run=run.path, render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=1, options={"temperature": 0.5})
    assert env.unwrapped.dreams.temperature == 0.5
    assert env.render().shape == (64, 64, 3) and env.render().std() > 0
    if task == "carracing":  # M predicts neither a reward nor an end
        env.reset(seed=1)
        steps = [env.step(env.action_space.sample()) for _ in range(20)]
        assert all(reward == 0 and not terminated for _, reward, terminated, *_ in steps)
        assert [truncated for *_, truncated, _ in steps] == [False] * 19 + [True]


def test_dreams_start_from_stored_frames(tmp_path):
    run = new_run(tmp_path / "run", z_size=3)
    mu, logvar = np.arange(12, dtype=np.float32).reshape(4, 3) * 100, np.full((4, 3), -40, np.float32)
    with run.write("initial_z.npz") as tmp, open(tmp, "wb") as file:
        np.savez(file, mu=mu, logvar=logvar)
    starts = Starts(run)
    assert {tuple(np.round(Randomness(seed).first(starts))) for seed in range(60)} == {tuple(row) for row in mu}


def test_c_evolves_in_a_dream_that_pays(tmp_path):
    """CarRacing's M with heads for the end and the reward: a single dream earns what a dream of the search does."""
    run = make_run(tmp_path / "run", heads="end+reward", play_in="dream", dream_frames=30, generations=2, lanes=4)
    rnn = load_rnn(run)
    rnn.head.bias.assign(np.concatenate([[-5.0], rnn.head.bias.numpy()[1:]]))  # dreams last longer than a step
    weights.save(rnn, run, "rnn.weights.h5")
    run_script("train_controller.py", "--run", run)
    lines = [json.loads(line) for line in (run / "controller/history.jsonl").read_text().splitlines()]
    assert all(0 < line["mean_steps"] <= 30 and np.isfinite(line["mean"]) and line["std"] > 0 for line in lines)
    params = np.random.default_rng(1).normal(size=(1, size_of(run.config)))
    [total], [steps] = rollout.evaluate(Alone(), make_lanes(run), params, [5])
    rewards, _ = play_alone(DreamEnv(run.path), run.config, params[0], 5)
    assert len(rewards) == steps and sum(rewards) == pytest.approx(total, abs=1e-3) and len(set(rewards)) > 1


def test_mistakes_are_one_line(mortal, tmp_path):
    with pytest.raises(UserError, match="temperature: expected a number above 0, got 0"):
        DreamEnv(mortal.path, temperature=0)
    with pytest.raises(UserError, match="is a run of carracing; this environment dreams of doom"):
        gym.make(DREAM, run=make_run(tmp_path / "car").path)
    new = new_run(tmp_path / "new", "doom")
    with pytest.raises(UserError, match=r"initial_z\.npz is missing; make it with: python train_rnn\.py"):
        DreamEnv(new.path)
    with new.write("initial_z.npz") as tmp, open(tmp, "wb") as file:
        np.savez(file, mu=np.zeros((4, 32), np.float32), logvar=np.zeros((4, 32), np.float32))
    with pytest.raises(UserError, match=r"initial_z\.npz holds .*\(4, 32\).*expected rows"):
        DreamEnv(new.path)
    wrong = make_run(tmp_path / "wrong", "doom")
    with wrong.write("rnn.weights.h5") as tmp:
        tmp.write_bytes((tmp_path / "car/rnn.weights.h5").read_bytes())
    env = DreamEnv(wrong.path)
    env.reset(seed=1)
    with pytest.raises(UserError, match=r"rnn\.weights\.h5 does not hold M of 5 units for doom"):
        env.step(np.zeros(1, np.float32))


def test_dreams_along_an_episode_begin_at_its_frames_and_stop_after_an_end(tmp_path):
    """M predicts no end, then an end at once: 25 frames, a dream every 10."""
    run, rng = make_run(tmp_path / "run", "doom"), np.random.default_rng(3)
    params = rng.normal(size=size_of(run.config))
    z = rng.standard_normal((25, run.config.z_size))
    h, c = rng.uniform(-0.5, 0.5, (2, 25, run.config.rnn_units))
    starts = DreamEnv(run.path).dreams.decode(z[::10].astype(np.float32))
    for bias in (-100.0, 100.0):
        rnn = load_rnn(run)
        rnn.head.bias.assign(np.concatenate([[bias], rnn.head.bias.numpy()[1:]]))
        weights.save(rnn, run, "rnn.weights.h5")
        frames, over = dreams_along(run, params, z, h, c, 10)
        assert frames.shape == (25, 64, 64, 3) and over.shape == (25,)
        assert np.abs(frames[::10].astype(int) - starts).max() <= 1
        np.testing.assert_array_equal(over, (np.arange(25) % 10 > 0) & (bias > 0))
        moved = np.abs(frames[1].astype(int) - frames[5]).max()
        assert (moved == 0) if bias > 0 else (moved > 0)


def test_only_long_episodes_are_recorded(doom_run):
    run = Run(doom_run)
    assert run.config.min_frames == 100
    assert min(map(episodes.length_of, episodes.complete(run))) > 100


def test_c_evolves_in_the_real_game(doom_run, tmp_path):
    run = tmp_path / "real"
    flags = ["--play-in", "real", "--generations", "1", "--eval-every", "1", "--rollouts", "1"]
    run_script("train_controller.py", "--run", run, "--from", doom_run, *flags)
    (line,) = (run / "controller/history.jsonl").read_text().splitlines()
    assert 50 < json.loads(line)["mean"] <= 150  # steps survived of at most 150


def test_agents_of_several_temperatures(doom_run):
    flags = ["--run", doom_run, "--vary", "temperature=0.5,1.15", "--sigma", "0.2", "--test-episodes", "2"]
    said = run_script("train_controller.py", *flags, ranks=2).stdout
    again = run_script("train_controller.py", *flags)
    assert again.stdout.endswith(said[said.index("agent ") :]) and "test episodes" not in again.stderr
    agents = [doom_run / f"agents/temperature-{tau}" for tau in (0.5, 1.15)]
    rows = [row for run in agents for row in json.loads((run / "results.json").read_text())["results"]]
    assert [(row["trained_temperature"], row["play_in"]) for row in rows] == [
        (tau, env) for tau in (0.5, 1.15) for env in ("dream", "real")
    ]
    assert all(f"{row['mean']:.1f} ± {row['std']:.1f}" in said for row in rows)
    for run, tau in zip(agents, (0.5, 1.15), strict=True):
        config = Run(run).config
        assert (config.temperature, config.play_in, config.sigma) == (tau, "dream", 0.2)
    assert Run(doom_run).config.sigma == 0.1
    # Each is a run of its own, on the same V and M.
    run_script("evaluate.py", "--run", agents[0], "--play-in", "dream", "--episodes", "2", "--save")
    assert (agents[0] / "videos/doom-dream-0.5.mp4").exists()
    again = json.loads((agents[0] / "results.json").read_text())["results"]
    assert again[-1]["returns"] == rows[0]["returns"]
