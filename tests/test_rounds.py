"""Rounds: a run that comes after another, with the real commands on real CarRacing and ViZDoom."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import run_script
from controller.recording_lanes import RecordingLanes

from controller import curiosity
from controller.evolution import Evolution
from controller.jobs import Jobs
from controller.policy import Controller
from controller.rollout import play
from rnn import mdn
from train_all import episodes_of
from vae.data import episode_path, read_episode
from vae.model import sample
from world_models import mpi, tasks
from world_models.config import UserError
from world_models.environments import make_env
from world_models.runs import run_dir
from world_models.seeds import generator
from world_models.stages.explorers import Explorers
from world_models.stages.held_out import held_out_episodes
from world_models.stages.recording import is_random, record
from world_models.world_model import WorldModel, load_rnn, load_vae


@pytest.fixture(scope="module")
def first_round(car_run, tmp_path_factory):
    """`car_run` with an agent."""
    run = tmp_path_factory.mktemp("rounds") / "car"
    shutil.copytree(car_run, run, ignore=shutil.ignore_patterns("controller"))
    run_script("train_controller.py", "--run", run)
    return run


@pytest.fixture(scope="module")
def recorded_round(first_round):
    """Its next round, recorded by two ranks. In sixteen lanes a lane's place changes no number on any processor."""
    run = first_round.with_name("car-2")
    flags = "--episodes 5 --noisy 0.5 --rnn-steps 2 --new-share 0.5 --generations 2 --lanes 16 --seed 5"
    done = run_script("extract.py", "--run", run, "--after", first_round, *flags.split(), ranks=2)
    return run, done.stdout


@pytest.fixture
def second_round(recorded_round):
    return recorded_round[0]


def test_a_round_links_the_recordings_and_adds_the_agent_s(first_round, recorded_round):
    second_round, said = recorded_round
    config = run_dir.load(second_round)
    assert (config.round, config.linked, config.episodes, config.total_episodes) == (2, 4, 5, 9)
    for index in range(4):
        link = episode_path(second_round, index)
        assert link.is_symlink() and link.resolve() == episode_path(first_round, index).resolve()
    noises = []
    for index in range(4, 9):
        with np.load(episode_path(second_round, index)) as file:
            source = json.loads(str(file["source"]))
            assert file["obs"].shape == (60, 64, 64, 3) and file["reward"].shape == (60,)
            assert file["action"].min(axis=0)[1] >= 0 and abs(file["action"]).max() <= 1
        assert source["round"] == 2 and source["policy"] == "controller"
        noises.append(source["action_noise"])
    assert set(noises) == {0.0, 0.3}
    noisy = noises.count(0.3)
    for who, count in (("the agent", 5 - noisy), ("the agent, with noise", noisy)):
        assert re.search(rf"^  {who}: {count}, -?\d+ ± \d+$", said, re.MULTILINE)


def test_an_episode_does_not_depend_on_who_records_it(first_round, second_round):
    path = episode_path(second_round, 6)
    obs, action = read_episode(path)
    path.unlink()
    run_script("extract.py", "--run", second_round)
    again = read_episode(path)
    np.testing.assert_array_equal(again[0], obs)
    np.testing.assert_array_equal(again[1], action)


def test_v_m_and_c_go_on_from_the_round_before(first_round, second_round):
    before, config = second_round / "before", run_dir.load(second_round)
    for script in ("train_vae.py", "train_rnn.py"):
        run_script(script, "--run", second_round)
    for load, reach in ((load_vae, 2e-3), (load_rnn, 5e-3)):
        trained = load(second_round, config).get_weights()
        away = max(abs(new - old).max() for new, old in zip(trained, load(before, config).get_weights(), strict=True))
        assert 0 < away < reach  # first weights of another seed are further away
    kept = np.array(json.loads((first_round / "controller" / "best.json").read_text())["parameters"])
    np.testing.assert_array_equal(Evolution(second_round, config, len(kept)).es.best(), kept)
    anew = Evolution(second_round, tasks.replace(config, restart="yes"), len(kept))
    assert not anew.es.best().any() and kept.any()
    run_script("train_controller.py", "--run", second_round)
    assert (second_round / "controller" / "best.json").exists()


def test_agents_that_record_spread_around_the_kept_one(first_round, second_round):
    before, config = second_round / "before", run_dir.load(second_round)
    explorers = Explorers(before, config)
    drawn = np.stack([explorers.agent(index).parameters for index in range(4, 9)])
    best = np.array(json.loads((before / "controller" / "best.json").read_text())["parameters"])
    deviation = np.sqrt(np.mean((drawn - best) ** 2))
    history = [json.loads(line) for line in (before / "controller" / "history.jsonl").read_text().splitlines()]
    assert deviation == pytest.approx(history[-1]["sigma"], rel=0.1)
    np.testing.assert_array_equal(explorers.agent(5).parameters, drawn[1])
    np.testing.assert_array_equal(Explorers(before, config).agent(8).parameters, drawn[4])  # whoever is drawn first
    np.testing.assert_array_equal(explorers.kept().parameters, best)


def test_noise_moves_what_the_agent_does(second_round):
    before, config = second_round / "before", run_dir.load(second_round)
    played = {}
    for noise in (0.0, 0.3):
        lanes, explorer = RecordingLanes(config, WorldModel.load(before, config), 1), Explorers(before, config).kept()
        lanes.noises = {5: noise}
        ended = []
        play(
            lanes, Jobs(mpi.world(), 1), explorer.parameters[None], [5], lambda _, lane, ended=ended: ended.append(lane)
        )
        played[noise] = lanes.episodes[ended[0]].arrays()["action"]
        lanes.close()
    assert played[0.0].shape == (60, 3) and (played[0.3][0] != played[0.0][0]).any()


def test_a_curious_agent_records_its_share(first_round, tmp_path):
    run = shutil.copytree(first_round, tmp_path / "car", symlinks=True)
    flags = ["--after", run, "--episodes", "6", "--curious", "0.5"]
    done = run_script("extract.py", "--run", tmp_path / "b", *flags, check=False)
    assert done.returncode == 2 and "--objective surprise" in done.stderr
    run_script("train_controller.py", "--run", run, "--objective", "surprise")
    log = run / "curious" / "history.jsonl"
    before = log.read_text()
    run_script("train_controller.py", "--run", run, "--objective", "surprise", "--generations", "6")  # it goes on
    assert log.read_text().startswith(before) and len(before.splitlines()) == 5
    # A surprise is some nats a dimension, where returns are points; the agent that seeks those is untouched.
    history = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(history) == 6 and all(0 < line["mean"] < 5 and line["std"] > 0 for line in history)
    kept = (run / "controller" / "best.json").read_bytes()
    assert kept == (first_round / "controller" / "best.json").read_bytes()
    run_script("extract.py", "--run", tmp_path / "c", *flags)
    policies = []
    for index in range(4, 10):
        with np.load(episode_path(tmp_path / "c", index)) as file:
            policies.append(json.loads(str(file["source"]))["policy"])
    assert set(policies) == {"curious", "controller"}
    explorers = Explorers(tmp_path / "c" / "before", tasks.replace(run_dir.load(tmp_path / "c"), spread=0.0))
    for index, policy in enumerate(policies, 4):
        played = json.loads((run / policy / "best.json").read_text())["parameters"]
        np.testing.assert_array_equal(explorers.agent(index).parameters, played)
    for restart, folder in (("no", "controller"), ("curious", "curious")):
        config = tasks.replace(run_dir.load(tmp_path / "c"), restart=restart)
        started = np.array(json.loads((run / folder / "best.json").read_text())["parameters"])
        np.testing.assert_array_equal(Evolution(tmp_path / "c", config, len(started)).es.best(), started)


def test_a_share_of_a_round_is_random_and_a_packed_run_s_round_begins_without_recordings(first_round, tmp_path):
    packed = tmp_path / "packed"
    shutil.copytree(first_round, packed, ignore=shutil.ignore_patterns("record"))
    flags = "--episodes 6 --random 0.5 --heads end+reward --features z --restart yes"  # the old agent sees z and h
    run_script("extract.py", "--run", tmp_path / "b", "--after", packed, *flags.split())
    sources = []
    for index in range(6):
        with np.load(episode_path(tmp_path / "b", index)) as file:
            sources.append(json.loads(str(file["source"])))
    assert [source["policy"] for source in sources] == ["controller", "release"] * 3
    assert all(source["round"] == 2 for source in sources)
    config = run_dir.load(tmp_path / "b")
    assert config.linked == 0 and config.total_episodes == 6
    # The random ones are the policy's, not an agent's: as this run would have recorded them in its first round.
    env = make_env(config)
    expected = record(env, config, 3)
    env.close()
    np.testing.assert_array_equal(read_episode(episode_path(tmp_path / "b", 3))[1], expected["action"])
    # A round that is all random needs no agent at all.
    assert all(is_random(tasks.replace(config, random=1.0), index) for index in range(20))


def test_without_new_episodes_v_and_m_stay_and_c_goes_on(first_round, tmp_path):
    run = tmp_path / "b"
    run_script("train_controller.py", "--run", run, "--after", first_round, "--episodes", "0", "--generations", "1")
    for script in ("extract.py", "train_vae.py", "train_rnn.py", "train_controller.py"):
        run_script(script, "--run", run)  # nothing is left to do
    config = run_dir.load(run)
    assert (config.round, config.episodes, config.total_episodes) == (2, 0, 4)
    for name in ("vae.weights.h5", "rnn.weights.h5", "initial_z.npz", "pictures/reconstructions.png"):
        assert (run / name).read_bytes() == (first_round / name).read_bytes()
    kept = np.array(json.loads((first_round / "controller" / "best.json").read_text())["parameters"])
    (run / "controller").rename(tmp_path / "evolved")
    np.testing.assert_array_equal(Evolution(run, config, len(kept)).es.best(), kept)
    assert json.loads((tmp_path / "evolved" / "best.json").read_text())["parameters"] != list(kept)
    with pytest.raises(UserError, match="--heads reward: with --episodes 0 M stays"):
        run_dir.open_run(tmp_path / "c", {"episodes": 0, "heads": "reward"}, None, first_round)
    with pytest.raises(UserError, match="--episodes: expected 1 or more in a first round"):
        run_dir.open_run(tmp_path / "d", {"episodes": 0, "task": "carracing"})


def test_c_is_evolved_anew_from_a_later_round_without_the_one_before(second_round, tmp_path):
    """As a packed one is: where its own search began is not in it."""
    small, mine = tmp_path / "small", tmp_path / "mine"
    shutil.copytree(second_round, small, ignore=shutil.ignore_patterns("before", "record"))
    assert run_dir.resolve_config(mine, {"seed": 1}, second_round).restart == "no"
    config = run_dir.open_run(mine, {"seed": 1}, small)
    assert (config.round, config.restart) == (2, "yes") == (run_dir.load(mine).round, run_dir.load(mine).restart)


def test_a_later_round_lends_its_recordings_only_where_they_are_the_same(second_round, tmp_path):
    run_dir.open_run(tmp_path / "share", {"new_share": 0.7}, second_round)
    assert (tmp_path / "share" / "before").exists() and episode_path(tmp_path / "share", 8).exists()
    assert not (tmp_path / "share" / "vae.weights.h5").exists()
    for other in ({"spread": 2.0}, {"episodes": 7}):
        with pytest.raises(UserError, match="whose recordings are of other settings"):
            run_dir.open_run(tmp_path / "other", other, second_round)


def test_a_curious_agent_is_read_only_if_it_records(copied):
    run, config = copied  # has none
    explorers = Explorers(run, tasks.replace(config, round=2, curious=0.5))
    assert explorers.kept().source["policy"] == "controller"
    found = set()
    for index in range(20):
        try:
            found.add(explorers.agent(index).source["policy"])
        except UserError as error:
            found.add(str(error).partition(" is missing")[0])
    assert found == {"controller", f"{run}/curious/best.json"}


def test_surprise_is_m_s_loss_of_what_it_meets(first_round):
    """Two episodes in real lanes: M's loss over the same z and actions, step by step."""
    config = run_dir.load(first_round)
    lanes = curiosity.CuriousLanes(config, WorldModel.load(first_round, config), 4)
    size = Controller.of(config).num_params
    agents = np.random.default_rng(2).normal(size=(2, size)) * 0.1
    found = play(lanes, Jobs(mpi.world(), 2), agents, [3, 4])
    rnn, vae = load_rnn(first_round, config), load_vae(first_round, config)
    env, random = make_env(config), generator(4, "noise of z")
    frame, _ = env.reset(seed=4)
    h = c = np.zeros((1, config.rnn_units), np.float32)
    total = 0.0
    for step in range(config.max_frames):
        z = sample(*vae.encode(frame[None]), random.standard_normal((1, config.z_size), np.float32))
        if step:
            total += float(mdn.loss(z, *rnn.split(rnn.head(h))))
        action = Controller.of(config).act(np.float32(agents[1:]), z, c, h)
        h, c = rnn.step(z, action, np.zeros((1, 1), np.float32), h, c)
        frame, *_ = env.step(np.asarray(action[0]))
    assert found[1][0] == pytest.approx(total / config.max_frames, rel=1e-4)


def test_what_a_round_cannot_begin_with_is_one_line(car_run, first_round, tmp_path):
    given = {"episodes": 2}
    with pytest.raises(UserError, match=r"best\.json is missing"):
        run_dir.open_run(
            tmp_path / "a",
            given,
            None,
            shutil.copytree(car_run, tmp_path / "b", ignore=shutil.ignore_patterns("controller")),
        )
    (tmp_path / "b" / "record" / "000001.npz").unlink()
    with pytest.raises(UserError, match="holds 3 of 4"):
        run_dir.open_run(tmp_path / "a", given, None, tmp_path / "b")
    with pytest.raises(UserError, match="--episodes"):
        run_dir.open_run(tmp_path / "a", {}, None, car_run)
    for name, value in (("z_size", 8), ("rnn_units", 32), ("mixtures", 3)):
        with pytest.raises(UserError, match="whose sizes they keep"):
            run_dir.open_run(tmp_path / "a", given | {name: value}, None, first_round)
    with pytest.raises(UserError, match="have no masks"):
        run_dir.open_run(tmp_path / "a", given | {"vae_weight": 4.0}, None, first_round)
    with pytest.raises(UserError, match=r"--view v3: the recordings of .* have --view v0"):
        run_dir.open_run(tmp_path / "a", given | {"view": "v3"}, None, first_round)
    with pytest.raises(UserError, match=r"--features z: C goes on from .* which sees zh"):
        run_dir.open_run(tmp_path / "a", given | {"features": "z"}, None, first_round)
    assert not (tmp_path / "a").exists()


def test_a_run_without_masks_lends_no_episodes_to_one_that_needs_them(first_round, tmp_path):
    run_dir.open_run(tmp_path / "plain", {"vae_epochs": 2}, first_round)
    assert episode_path(tmp_path / "plain", 0).exists()
    run_dir.open_run(tmp_path / "weighed", {"vae_weight": 4.0}, first_round)
    assert not (tmp_path / "weighed" / "record").exists()


def test_held_out_episodes_are_of_the_agent_of_now(first_round, tmp_path):
    run = shutil.copytree(first_round, tmp_path / "car", symlinks=True)
    config = run_dir.load(run)
    run_script("extract.py", "--run", run, "--held-out", "1")
    path = held_out_episodes(run, config)[0]
    before = path.read_bytes()
    best = json.loads((run / "controller" / "best.json").read_text())
    best["parameters"] = [value + 0.5 for value in best["parameters"]]
    del best["digest"]
    (run / "controller" / "best.json").write_text(json.dumps(best))
    with pytest.raises(UserError, match=r"agent \w+, expected"):
        held_out_episodes(run, config)
    run_script("extract.py", "--run", run, "--held-out", "1")
    assert held_out_episodes(run, config) == [path] and path.read_bytes() != before


def test_a_linked_episode_that_is_gone_is_not_recorded_anew(second_round, tmp_path):
    run = shutil.copytree(second_round, tmp_path / "run", symlinks=True)
    link = episode_path(run, 1)
    link.unlink()
    link.symlink_to(tmp_path / "gone.npz")
    done = run_script("extract.py", "--run", run, check=False)
    assert done.returncode == 2 and "no longer there" in done.stderr and not (tmp_path / "gone.npz").exists()


def test_all_rounds_in_a_row_end_with_a_table(doom_run, tmp_path):
    """Two ranks go on from a recorded run with V and M: what is left of its round, and one more."""
    shutil.copytree(doom_run, tmp_path / "doom", ignore=shutil.ignore_patterns("controller", "agents"))
    flags = ["--test-episodes", "2", "--rounds", "2", "--round-episodes", "3", "--held-out", "3"]
    done = run_script("train_all.py", "--run", tmp_path / "doom", *flags, ranks=2)
    assert "1092 ± 556" in done.stdout and "seconds: extract" in done.stdout and "  vae.weights.h5" in done.stdout
    table = done.stdout.splitlines()[-3:]
    assert table[0].split()[0] == "round" and "death recall" in table[0]
    assert [line.split()[0] for line in table[1:]] == ["1", "2"] and all(line.count("±") == 2 for line in table[1:])
    assert run_dir.load(tmp_path / "doom-2").total_episodes == 8
    films = {path.name for path in (tmp_path / "doom" / "videos").iterdir()}
    assert films == {"doom-best.mp4", "doom-worst.mp4"}
    rows = json.loads((tmp_path / "doom" / "results.json").read_text())["results"]
    assert [row["env"] for row in rows] == ["dream", "real"]
    assert all(row["temperature"] == 1.15 and row["mean"] == row["mean_steps"] for row in rows)


def test_a_round_s_number_of_episodes_is_said_once(tmp_path):
    run_dir.save(tasks.replace(tasks.preset("doom", "smoke"), episodes=3), tmp_path)
    assert [episodes_of(tmp_path, given) for given in (None, 3)] == [3, 3]
    assert [episodes_of(tmp_path / "new", given) for given in (None, 5)] == [300, 5]
    with pytest.raises(UserError, match=r"--round-episodes 4: .* was made with 3"):
        episodes_of(tmp_path, 4)
