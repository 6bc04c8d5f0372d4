"""Presets, the run folder, and user errors."""

import dataclasses
import importlib.machinery
import re
import sys

import pytest
from conftest import ROOT, run_script

from controller.evolution import begin
from world_models import command_line, tasks
from world_models import config as configs
from world_models.config import UserError
from world_models.runs import run_dir, storage
from world_models.stages.evaluation import configured


def test_paper_preset_is_the_published_configuration():
    car, doom = tasks.preset("carracing", "paper"), tasks.preset("doom", "paper")
    assert (car.episodes, car.max_frames, car.z_size, car.vae_epochs, car.vae_batch) == (10_000, 1000, 32, 10, 100)
    assert (car.rnn_units, car.mixtures, car.rnn_steps, car.rnn_batch, car.rnn_length) == (256, 5, 4000, 100, 999)
    assert (car.rnn_rate, car.rnn_rate_end, car.vae_rate, car.kl_tolerance) == (1e-3, 1e-3, 1e-4, 0.5)
    assert (car.population, car.rollouts, car.generations, car.sigma) == (64, "16", 1800, 0.1)
    assert (car.eval_every, car.eval_episodes, car.features, car.env) == (25, 1024, "zh", "real")
    assert (car.view, car.pixels, car.policy, car.seeds, car.dtype) == ("v0", "paper", "release", "pairs", "float32")
    assert (doom.max_frames, doom.min_frames, doom.z_size, doom.rnn_units) == (2100, 100, 64, 512)
    assert (doom.rnn_steps, doom.rnn_length, doom.rnn_rate_end, doom.rnn_rate_decay) == (24_400, 500, 1e-5, 0.99999)
    assert (doom.env, doom.temperature, doom.features, doom.restart_weight) == ("dream", 1.15, "zch", 10.0)


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
        ({"temperature": 0.0}, "--temperature: expected a number above 0, got 0.0"),
        ({"population": 7}, "--population: expected an even number"),
        ({"rollouts": "four"}, "--rollouts: expected a count or a schedule"),
        ({"lanes": 0}, "--lanes: expected 1 or more, got 0"),
        ({"seed": -1}, "--seed: expected 0 or more, got -1"),
        ({"sigma": 0.0}, "--sigma: expected a number above 0"),
        ({"rnn_dropout": 1.0}, "--rnn-dropout: expected a number of 0 to 0.99, got 1.0"),
        ({"dream_dropout": -0.1}, "--dream-dropout: expected a number of 0 to 0.99, got -0.1"),
        ({"temperature": float("nan")}, "--temperature: expected a number above 0"),
        ({"env": "dream"}, "this M of CarRacing predicts no reward"),
        ({"patience": -1}, "--patience: expected 0 or more, got -1"),
        (
            {"task": "doom", "heads": "end", "patience": 20},
            "--patience 20: ViZDoom has no frames known to be without reward",
        ),
        ({"env": "dream", "heads": "reward", "patience": 20}, "--patience 20: CarRacing's dream has no frames"),
        ({"view": "v9"}, "--view: expected one of v0, v3, got 'v9'"),
    ],
)
def test_invalid_values_are_named(changes, message):
    values = {**vars(tasks.preset("carracing", "smoke")), **changes}
    with pytest.raises(UserError, match=message):
        tasks.check(configs.Config(**values))


def test_tests_have_no_patience():
    config = tasks.replace(tasks.preset("carracing", "smoke"), heads="end+reward", patience=20)
    assert {configured(config, env=env).patience for env in ("dream", "real")} == {0}


def test_unknown_task_and_preset():
    with pytest.raises(UserError, match="--task: unknown task 'pong': expected one of carracing, doom"):
        tasks.preset("pong", "paper")
    with pytest.raises(UserError, match="--preset: unknown preset 'huge'"):
        tasks.preset("doom", "huge")


def test_a_run_keeps_its_configuration_and_rejects_contradictions(tmp_path):
    run = tmp_path / "run"
    made = run_dir.open_run(run, {"task": "carracing", "preset": "smoke", "population": 10})
    assert made.population == 10
    assert run_dir.open_run(run, {}) == run_dir.open_run(run, {"population": 10}) == made
    with pytest.raises(UserError, match=r"--population 12: .* was made with --population 10"):
        run_dir.open_run(run, {"population": 12})
    with pytest.raises(UserError, match=r"--task doom: .* was made with --task carracing"):
        run_dir.open_run(run, {"task": "doom"})


def test_a_search_may_go_on_but_not_shrink(tmp_path):
    run = tmp_path / "run"
    made = run_dir.open_run(run, {"task": "carracing", "preset": "smoke"})
    with pytest.raises(UserError, match="--population 12"):
        run_dir.open_run(run, {"generations": made.generations + 1, "population": 12})
    assert run_dir.load(run) == made
    grown = run_dir.open_run(run, {"generations": made.generations + 5})
    assert grown.generations == made.generations + 5 and run_dir.load(run) == made
    begin(run, grown, size=10)
    assert run_dir.load(run) == grown
    with pytest.raises(UserError, match="--generations"):
        run_dir.open_run(run, {"generations": made.generations})


def test_a_preset_is_not_put_over_another_runs_configuration(tmp_path):
    run_dir.open_run(tmp_path / "base", {"task": "carracing", "preset": "smoke"})
    with pytest.raises(UserError, match="--preset paper: with --from"):
        run_dir.open_run(tmp_path / "new", {"preset": "paper"}, tmp_path / "base")
    assert not (tmp_path / "new").exists()


def test_a_new_run_needs_a_task_and_a_broken_one_is_named(tmp_path):
    with pytest.raises(UserError, match="is a new run: say --task"):
        run_dir.open_run(tmp_path / "new", {})
    assert not (tmp_path / "new").exists()
    (tmp_path / "config.json").write_text('{"task": "carracing", "colour": 3}')
    with pytest.raises(UserError, match=r"config\.json is not a run's configuration"):
        run_dir.load(tmp_path)
    with pytest.raises(UserError, match="holds no run"):
        run_dir.load(tmp_path / "nowhere")


def test_a_derived_run_takes_what_still_fits(tmp_path):
    base = tmp_path / "base"
    run_dir.open_run(base, {"task": "carracing", "preset": "smoke"})
    (base / "record").mkdir()
    for index in range(run_dir.load(base).episodes):
        (base / "record" / f"{index:06d}.npz").touch()
    for name in ("series.npz", "vae.weights.h5", "rnn.weights.h5", "initial_z.npz"):
        (base / name).write_text(name)
    ablation = tmp_path / "z"
    assert run_dir.open_run(ablation, {"features": "z"}, base).features == "z"
    assert (ablation / "rnn.weights.h5").read_text() == "rnn.weights.h5" and (ablation / "record").is_dir()
    other = tmp_path / "units"
    run_dir.open_run(other, {"rnn_units": 16}, base)
    assert (other / "vae.weights.h5").exists() and not (other / "rnn.weights.h5").exists()
    assert (other / "series.npz").exists()
    mirror = tmp_path / "mirror"
    run_dir.open_run(mirror, {"mirror": "yes"}, base)
    assert (mirror / "vae.weights.h5").exists() and not (mirror / "series.npz").exists()
    untrained = tmp_path / "untrained"
    run_dir.open_run(untrained, {"untrained": "vae"}, base)
    assert (untrained / "record").is_dir() and not (untrained / "vae.weights.h5").exists()
    (base / "record" / "000003.npz").unlink()
    run_dir.open_run(tmp_path / "partly", {"seed": 1}, base)
    assert not (tmp_path / "partly" / "record").exists()
    with pytest.raises(UserError, match="is a run of task carracing"):
        run_dir.open_run(tmp_path / "doom", {"task": "doom"}, base)


def test_files_are_written_atomically(tmp_path):
    path = tmp_path / "file.json"
    storage.write_text(path, "old")
    with pytest.raises(RuntimeError), storage.atomic_write(path) as tmp:
        tmp.write_text("ne")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_every_flag_is_explained(capsys):
    with pytest.raises(SystemExit):
        command_line.parser("x").parse_args(["--help"])
    text = capsys.readouterr().out
    flags = {item.name for item in dataclasses.fields(configs.Config)} - set(configs.fields_of("before"))
    assert flags and all(configs.flag(name) in text for name in flags)


@pytest.mark.parametrize("spec, command", [(None, None), ("tools.convert", "python -m tools.convert")])
def test_the_help_begins_with_the_command(monkeypatch, spec, command):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec and importlib.machinery.ModuleSpec(spec, None))
    monkeypatch.setattr(sys, "argv", ["folder/evaluate.py"])
    assert command_line.Parser().prog == (command or "evaluate.py")


def test_a_stages_help_shows_its_own_flags_with_the_runs_defaults():
    """And --help-all the others."""
    own = run_script("train_rnn.py", "--help", "--task", "doom", "--preset", "laptop").stdout
    assert "(when the run is new; defaults: doom, laptop)" in own
    assert re.search(r"--rnn-units INT\s+LSTM units \(default 512\)", own)
    assert "--population" not in own and "--help-all" in own
    assert "--max-frames" not in own
    everything = run_script("train_rnn.py", "--help-all", "--run", ROOT / "pretrained" / "carracing").stdout
    assert everything.index("--rnn-units") < everything.index("--max-frames")
    assert re.search(r"--population INT\s+candidates a generation \(default 48\)", everything)
    assert re.search(r"--rnn-units INT\s+LSTM units \(default 256\)", everything)
