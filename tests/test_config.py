"""Presets, settings, flags, and their help."""

import dataclasses
import importlib.machinery
import json
import re
import sys

import pytest
from conftest import ROOT, run_script
from small_run import evolve, make_run

from world_models import command_line, tasks
from world_models import config as configs
from world_models.config import UserError
from world_models.runs import config_file, files
from world_models.runs.begin import begin
from world_models.runs.manifest import command


def test_paper_preset_is_the_published_configuration():
    car, doom = tasks.preset("carracing", "paper"), tasks.preset("doom", "paper")
    assert (car.episodes, car.max_frames, car.z_size, car.vae_epochs, car.vae_batch) == (10_000, 1000, 32, 10, 100)
    assert (car.rnn_units, car.mixtures, car.rnn_steps, car.rnn_batch, car.rnn_length) == (256, 5, 4000, 100, 999)
    assert (car.rnn_rate, car.rnn_rate_end, car.vae_rate, car.kl_tolerance) == (1e-3, 1e-3, 1e-4, 0.5)
    assert (car.population, car.rollouts, car.generations, car.sigma) == (64, "16", 1800, 0.1)
    assert (car.eval_every, car.eval_episodes, car.features, car.play_in) == (25, 1024, "zh", "real")
    assert (car.view, car.pixels, car.policy, car.seed_sharing, car.dtype) == (
        "v0",
        "paper",
        "release",
        "pairs",
        "float32",
    )
    assert (doom.max_frames, doom.min_frames, doom.z_size, doom.rnn_units) == (2100, 100, 64, 512)
    assert (doom.rnn_steps, doom.rnn_length, doom.rnn_rate_end, doom.rnn_rate_decay) == (24_400, 500, 1e-5, 0.99999)
    assert (doom.play_in, doom.temperature, doom.features, doom.restart_weight) == ("dream", 1.15, "zch", 10.0)


@pytest.mark.parametrize("task", tasks.TASKS)
@pytest.mark.parametrize("name", configs.PRESETS)
def test_every_preset_is_valid(task, name):
    assert tasks.check(tasks.preset(task, name)).preset == name


@pytest.mark.parametrize(
    ("schedule", "generation", "episodes"),
    [("16", 1, 16), ("4,20:8,50:16", 19, 4), ("4,20:8,50:16", 20, 8), ("4,20:8,50:16", 1000, 16)],
)
def test_rollout_schedules(schedule, generation, episodes):
    assert configs.rollouts_at(schedule, generation) == episodes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "--temperature: expected at least 1e-30, got 0.0"),
        ({"population": 7}, "--population: expected an even number"),
        ({"rollouts": "four"}, "--rollouts: expected a count or a schedule"),
        ({"lanes": 0}, r"--lanes: expected at least 1 and at most 1e\+06, got 0"),
        ({"seed": -1}, "--seed: expected at least 0, got -1"),
        ({"sigma": 0.0}, "--sigma: expected more than 0, got 0.0"),
        ({"rnn_dropout": 1.0}, "--rnn-dropout: expected at least 0 and at most 0.99, got 1.0"),
        ({"dream_dropout": -0.1}, "--dream-dropout: expected at least 0 and at most 0.99, got -0.1"),
        ({"temperature": float("nan")}, "--temperature: expected at least 1e-30, got nan"),
        ({"episodes": 0}, "--episodes: expected at least 1 in a first round"),
        ({"play_in": "dream"}, "this M of CarRacing predicts no reward"),
        ({"view": "v9"}, "--view: expected one of v0, v3, got 'v9'"),
        ({"optimizer": "ga"}, "--optimizer: expected one of cma, cma-diagonal, openai-es, got 'ga'"),
    ],
)
def test_invalid_values_are_named(changes, message):
    values = {**vars(tasks.preset("carracing", "smoke")), **changes}
    with pytest.raises(UserError, match=message):
        tasks.check(configs.Config(**values))


@pytest.mark.parametrize("rollouts", ["9" * 5000, "4,50:16,20:8", "4,20:8,20:16", "3:4", "4,", "-1", "4,:8"])
def test_schedules_that_do_not_ascend_are_refused(rollouts):
    with pytest.raises(UserError, match="--rollouts: expected a count"):
        tasks.replace(tasks.preset("carracing", "smoke"), rollouts=rollouts)


def test_unknown_task_and_preset():
    with pytest.raises(UserError, match="--task: unknown task 'pong': expected one of carracing, doom"):
        tasks.preset("pong", "paper")
    with pytest.raises(UserError, match="--preset: unknown preset 'huge'"):
        tasks.preset("doom", "huge")


def test_a_run_keeps_its_settings_and_rejects_contradictions(tmp_path):
    run = tmp_path / "run"
    made = begin(run, {"task": "carracing", "preset": "smoke", "population": 10}).config
    assert made.population == 10
    assert begin(run, {}).config == begin(run, {"population": 10}).config == config_file.load(run) == made
    with pytest.raises(UserError, match=r"--population 12: .* was made with --population 10"):
        begin(run, {"population": 12})
    with pytest.raises(UserError, match=r"--task doom: .* was made with --task carracing"):
        begin(run, {"task": "doom"})


def test_a_search_may_grow_but_not_shrink(tmp_path):
    run = make_run(tmp_path / "run")
    evolve(run)
    count = run.config.generations
    with pytest.raises(UserError, match="--population 12"):
        begin(run.path, {"generations": count + 1, "population": 12})
    assert begin(run.path, {}).config == run.config
    grown = begin(run.path, {"generations": count + 5})
    assert grown.config.generations == count + 5 and config_file.load(run.path) == grown.config
    assert grown.is_current("controller/checkpoint.npz")
    with pytest.raises(UserError, match="--generations"):
        begin(run.path, {"generations": count})


def test_a_preset_is_not_applied_to_another_runs_settings(tmp_path):
    begin(tmp_path / "base", {"task": "carracing", "preset": "smoke"})
    with pytest.raises(UserError, match="--preset paper: with --from"):
        begin(tmp_path / "new", {"preset": "paper"}, tmp_path / "base")
    with pytest.raises(UserError, match="is a run of task carracing"):
        begin(tmp_path / "new", {"task": "doom"}, tmp_path / "base")
    with pytest.raises(UserError, match=r"is a new run: give --task carracing or --task doom or --task gymnasium:ID"):
        begin(tmp_path / "new", {})
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="holds no run"):
        config_file.load(tmp_path / "new")


def test_a_setting_that_is_newer_than_the_run_has_its_default(tmp_path):
    begin(tmp_path, {"task": "doom", "preset": "smoke"})
    made = config_file.load(tmp_path)
    content = files.read_json(tmp_path / "config.json")
    del content["average"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert config_file.load(tmp_path) == made


def test_every_shipped_run_is_read():
    runs = [path.parent for path in (ROOT / "pretrained").rglob("config.json")]
    assert len(runs) > 3 and {config_file.load(run).task for run in runs} == {"carracing", "doom"}


def test_files_are_written_atomically(tmp_path):
    path = tmp_path / "file.json"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.atomic_write(path) as tmp:
        tmp.write_text("ne")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_every_flag_is_explained(capsys):
    with pytest.raises(SystemExit):
        command_line.parser("x").parse_args(["--help"])
    text = capsys.readouterr().out
    flags = {item.name for item in dataclasses.fields(configs.Config)} - set(configs.fields_of("lineage", "test"))
    assert flags and all(configs.flag(name) in text for name in flags)


@pytest.mark.parametrize("name", [None, "tools.convert", "tools.page.__main__"])
def test_a_command_is_given_as_it_can_be_typed(monkeypatch, name):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", name and importlib.machinery.ModuleSpec(name, None))
    monkeypatch.setattr(sys, "argv", ["folder/evaluate.py", "--run", "/home/me/a b", "--against=~/c"])
    typed = f"-m {name.removesuffix('.__main__')}" if name else "evaluate.py"
    assert command_line.Parser().prog == (f"python {typed}" if name else typed)
    assert command() == f"{typed} --run 'a b' --against=c"
    assert command(shared=False) == f"{typed} --run '/home/me/a b' '--against=~/c'"


def test_a_stages_help_shows_its_own_flags_with_the_runs_defaults():
    """And --help-all the others."""
    own = run_script("train_rnn.py", "--help", "--task", "doom", "--preset", "laptop").stdout
    assert "(when the run is new; defaults: doom, laptop)" in own
    assert re.search(r"--rnn-units INT\s+LSTM units \(default 512\)", own)
    assert "--population" not in own and "--help-all" in own
    assert "--max-frames" not in own
    everything = run_script("train_rnn.py", "--help-all", "--run", ROOT / "pretrained" / "carracing").stdout
    assert everything.index("--rnn-units") < everything.index("--max-frames")
    assert re.search(r"--population INT\s+candidates in a generation \(default 48\)", everything)
    assert re.search(r"--rnn-units INT\s+LSTM units \(default 256\)", everything)
