"""Rounds: a run that comes after another, with the real commands on real CarRacing and ViZDoom."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_script
from small_run import contents

from controller.evolution import Evolution
from world_models import tasks
from world_models.config import UserError
from world_models.environments import make_env
from world_models.runs import episodes
from world_models.runs.begin import begin
from world_models.runs.run import Run
from world_models.stages.explorers import Explorers
from world_models.stages.held_out import held_out_episodes
from world_models.stages.recording import is_random, record
from world_models.world_model import load_rnn, load_vae


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
    flags = "--episodes 5 --noisy-share 0.5 --rnn-steps 2 --new-share 0.5 --generations 2 --lanes 16 --seed 5"
    done = run_script("extract.py", "--run", run, "--after", first_round, *flags.split(), ranks=2)
    return run, done.stdout


@pytest.fixture
def second_round(recorded_round):
    return recorded_round[0]


def parameters(run: Path, folder: str = "controller") -> np.ndarray:
    return np.array(json.loads((run / folder / "best.json").read_text())["parameters"])


def sources(run: Path, indices: range) -> list[dict]:
    return [episodes.read_source(run / f"record/{index:06d}.npz") for index in indices]


def test_a_round_links_the_recordings_and_adds_the_agents(first_round, recorded_round):
    second_round, out = recorded_round
    run = Run(second_round)
    config = run.config
    assert (config.round, config.linked_episodes, config.episodes, config.total_episodes) == (2, 4, 5, 9)
    paths = episodes.complete(run)
    assert [path.is_symlink() for path in paths] == [True] * 4 + [False] * 5
    for path in paths[4:]:
        with np.load(path) as file:
            assert file["obs"].shape == (60, 64, 64, 3) and file["reward"].shape == (60,)
            assert file["action"].min(axis=0)[1] >= 0 and abs(file["action"]).max() <= 1
    found = sources(second_round, range(4, 9))
    assert all(source["round"] == 2 and source["policy"] == "controller" for source in found)
    noises = [source["action_noise"] for source in found]
    assert set(noises) == {0.0, 0.3}
    noisy = noises.count(0.3)
    for who, count in (("the agent", 5 - noisy), ("the agent, with noise", noisy)):
        assert re.search(rf"^  {who}: {count}, -?\d+ ± \d+$", out, re.MULTILINE)


def test_an_episode_does_not_depend_on_who_records_it(second_round):
    path = second_round / "record/000006.npz"
    before = path.read_bytes()
    path.unlink()
    run_script("extract.py", "--run", second_round)
    assert path.read_bytes() == before and len(episodes.complete(Run(second_round))) == 9


def test_v_m_and_c_go_on_from_the_round_before(first_round, second_round):
    for script in ("train_vae.py", "train_rnn.py"):
        run_script(script, "--run", second_round)
    run = Run(second_round)
    for load, reach in ((load_vae, 2e-3), (load_rnn, 5e-3)):
        pairs = zip(load(run).get_weights(), load(run.before).get_weights(), strict=True)
        away = max(abs(new - old).max() for new, old in pairs)
        assert 0 < away < reach  # first weights of another seed are further away
    kept = parameters(first_round)
    np.testing.assert_array_equal(Evolution(run, len(kept)).search.best(), kept)
    fresh = Evolution(Run(second_round, tasks.replace(run.config, search_start="zero")), len(kept))
    assert not fresh.search.best().any() and kept.any()
    run_script("train_controller.py", "--run", second_round)
    assert Run(second_round).is_current("controller/best.json")


def test_a_curious_agent_records_its_share(first_round, tmp_path):
    run = shutil.copytree(first_round, tmp_path / "car", symlinks=True)
    flags = ["--after", run, "--episodes", "6", "--curious-share", "0.5"]
    done = run_script("extract.py", "--run", tmp_path / "b", *flags, check=False)
    assert done.returncode == 2 and "--objective surprise" in done.stderr
    run_script("train_controller.py", "--run", run, "--objective", "surprise")
    # A surprise is some nats for each dimension, where returns are points; the agent that seeks those is untouched.
    history = [json.loads(line) for line in (run / "curious/history.jsonl").read_text().splitlines()]
    assert len(history) == 5 and all(0 < line["mean"] < 5 and line["std"] > 0 for line in history)
    assert (run / "controller/best.json").read_bytes() == (first_round / "controller/best.json").read_bytes()
    run_script("extract.py", "--run", tmp_path / "c", *flags)
    policies = [source["policy"] for source in sources(tmp_path / "c", range(4, 10))]
    assert set(policies) == {"curious", "controller"}
    later = Run(tmp_path / "c")
    explorers = Explorers(later.before, tasks.replace(later.config, spread=0.0))
    for index, policy in enumerate(policies, 4):
        np.testing.assert_array_equal(explorers.agent(index).parameters, parameters(run, policy))
    for start, folder in (("previous", "controller"), ("curious", "curious")):
        started = parameters(run, folder)
        evolution = Evolution(Run(later.path, tasks.replace(later.config, search_start=start)), len(started))
        np.testing.assert_array_equal(evolution.search.best(), started)


def test_a_share_of_a_round_is_random_and_a_packs_round_begins_without_recordings(first_round, tmp_path):
    packed = tmp_path / "packed"
    shutil.copytree(first_round, packed, ignore=shutil.ignore_patterns("record"))
    flags = "--episodes 6 --random-share 0.5 --heads end+reward --features z --search-start zero"
    run_script("extract.py", "--run", tmp_path / "b", "--after", packed, *flags.split())
    found, config = sources(tmp_path / "b", range(6)), Run(tmp_path / "b").config
    assert [source["policy"] for source in found] == ["controller", "release"] * 3
    assert all(source["round"] == 2 for source in found)
    assert config.linked_episodes == 0 and config.total_episodes == 6
    # The random ones are the policy's, not an agent's: as this run would have recorded them in its first round.
    env = make_env(config)
    expected, seed = record(env, config, 3)
    env.close()
    np.testing.assert_array_equal(episodes.read(tmp_path / "b/record/000003.npz")[1], expected["action"])
    assert found[3]["reset_seed"] == seed
    # A round that is all random needs no agent at all.
    assert all(is_random(tasks.replace(config, random_share=1.0), index) for index in range(20))


def test_without_new_episodes_v_and_m_stay_and_c_goes_on(first_round, tmp_path):
    path = tmp_path / "b"
    run_script("train_controller.py", "--run", path, "--after", first_round, "--episodes", "0", "--generations", "1")
    kept = lambda: {one: held for one, held in contents(path).items() if "tensorboard" not in one.parts}  # noqa: E731
    before = kept()
    for script in ("extract.py", "train_vae.py", "train_rnn.py", "train_controller.py"):
        run_script(script, "--run", path)  # nothing is left to do
    assert kept() == before
    run = Run(path)
    assert (run.config.round, run.config.episodes, run.config.total_episodes) == (2, 0, 4)
    for name in ("vae.weights.h5", "rnn.weights.h5", "initial_z.npz", "pictures/reconstructions.png"):
        assert (run / name).read_bytes() == (first_round / name).read_bytes()
    agent = parameters(first_round)
    assert parameters(path).tolist() != agent.tolist()
    shutil.rmtree(path / "controller")
    np.testing.assert_array_equal(Evolution(Run(path), len(agent)).search.best(), agent)
    with pytest.raises(UserError, match=r"--heads reward: .* with --episodes 0 M stays"):
        begin(tmp_path / "c", {"episodes": 0, "heads": "reward"}, after=first_round)


def test_c_is_evolved_anew_from_a_later_round_without_the_one_before(second_round, tmp_path):
    """In a pack of such a run, what its own search began from is missing."""
    small = tmp_path / "small"
    shutil.copytree(second_round, small, ignore=shutil.ignore_patterns("before", "record"))
    assert begin(tmp_path / "one", {"seed": 1}, second_round).config.search_start == "previous"
    config = begin(tmp_path / "two", {"seed": 1}, small).config
    assert (config.round, config.search_start) == (2, "zero")


def test_a_later_round_lends_its_recordings_only_where_they_are_the_same(second_round, tmp_path):
    run = begin(tmp_path / "heads", {"heads": "reward"}, second_round)
    assert len(episodes.complete(run)) == 9 and run.before.config.round == 1
    for other, flags in (({"spread": 2.0}, "--spread"), ({"episodes": 7, "min_frames": 1}, "--episodes, --min-frames")):
        with pytest.raises(UserError, match=f"^{flags}: .* is of round 2, and its recordings were made with other"):
            begin(tmp_path / "other", other, second_round)


def test_what_a_round_cannot_begin_with_is_one_line(first_round, tmp_path):
    new, given = tmp_path / "a", {"episodes": 2}
    with pytest.raises(UserError, match="give the number of --episodes"):
        begin(new, {}, after=first_round)
    for name, value in (("z_size", 8), ("rnn_units", 32), ("mixtures", 3)):
        with pytest.raises(UserError, match="keep their sizes"):
            begin(new, given | {name: value}, after=first_round)
    for changes, message in (
        ({"view": "v3"}, r"--view v3: .* has --view v0, and V and M also learn from its recordings"),
        ({"features": "z"}, r"--features z: .* has --features zh, and C goes on"),
    ):
        with pytest.raises(UserError, match=message):
            begin(new, given | changes, after=first_round)
    other = shutil.copytree(first_round, tmp_path / "b", symlinks=True)
    (other / "record/000001.npz").unlink()
    with pytest.raises(UserError, match=r"000001\.npz is missing"):
        begin(new, given, after=other)
    shutil.rmtree(other / "controller")
    with pytest.raises(UserError, match=r"best\.json is missing"):
        begin(new, given, after=other)
    assert not (new / "config.json").exists()


def test_held_out_episodes_are_of_the_agent_of_now(first_round, tmp_path):
    path = shutil.copytree(first_round, tmp_path / "car", symlinks=True)
    run_script("extract.py", "--run", path, "--held-out", "1")
    [held] = held_out_episodes(Run(path))
    before = held.read_bytes()
    best = json.loads((path / "controller/best.json").read_text())
    best["parameters"] = [value + 0.5 for value in best["parameters"]]
    Run(path).write_text("controller/best.json", json.dumps(best))
    with pytest.raises(UserError, match=r"agent \w+, expected"):
        held_out_episodes(Run(path))
    run_script("extract.py", "--run", path, "--held-out", "1")
    assert held_out_episodes(Run(path)) == [held] and held.read_bytes() != before


def test_a_linked_episode_that_is_missing_is_not_recorded_again(second_round, tmp_path):
    run = shutil.copytree(second_round, tmp_path / "run", symlinks=True)
    link = run / "record/000001.npz"
    link.unlink()
    link.symlink_to(tmp_path / "gone.npz")
    done = run_script("extract.py", "--run", run, check=False)
    assert done.returncode == 2 and "is missing; restore it" in done.stderr and not (tmp_path / "gone.npz").exists()


def test_all_rounds_in_a_row_end_with_a_table(doom_run, tmp_path):
    """Two ranks go on from a recorded run with V and M: what is left of its round, and one more."""
    shutil.copytree(doom_run, tmp_path / "doom", ignore=shutil.ignore_patterns("controller", "agents"))
    flags = ["--test-episodes", "2", "--rounds", "2", "--round-episodes", "3", "--held-out", "3"]
    done = run_script("train_all.py", "--run", tmp_path / "doom", *flags, ranks=2)
    assert "1092 ± 556" in done.stdout and "seconds: extract" in done.stdout and "  vae.weights.h5" in done.stdout
    table = done.stdout.splitlines()[-3:]
    assert table[0].split()[0] == "round" and "death recall" in table[0]
    assert [line.split()[0] for line in table[1:]] == ["1", "2"] and all(line.count("±") == 2 for line in table[1:])
    assert Run(tmp_path / "doom-2").config.total_episodes == 8
    films = {path.name for path in (tmp_path / "doom/videos").iterdir()}
    assert films == {"doom-best.mp4", "doom-worst.mp4"}
    rows = json.loads((tmp_path / "doom/results.json").read_text())["results"]
    assert [row["play_in"] for row in rows] == ["dream", "real"]
    assert all(row["temperature"] == 1.15 and row["mean"] == row["mean_steps"] for row in rows)


def test_a_run_from_a_pack_searches_from_zero_with_the_presets_settings(tmp_path, capsys):
    """A pack has the agent of its last round, and no models of the round before."""
    run = begin(tmp_path / "run", {"features": "z"}, base=ROOT / "pretrained/carracing")
    laptop = tasks.preset("carracing", "laptop")
    assert (run.config.search_start, run.config.features) == ("zero", "z")
    assert (run.config.generations, run.config.sigma) == (laptop.generations, laptop.sigma)
    assert "C begins at zero, with the search settings of laptop" in capsys.readouterr().err
    assert run.is_current("rnn.weights.h5")
