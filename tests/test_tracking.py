"""TensorBoard's curves, and those that are sent to Weights & Biases, for which a stand-in is used."""

import sys
import types
from contextlib import nullcontext

import pytest
from small_run import new_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from world_models.config import UserError
from world_models.tracking import Curves, track


class Job:
    def __init__(self):
        self.metrics, self.logged = [], []

    def define_metric(self, name, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, values):
        self.logged.append(values)


def test_curves_are_sent_grouped_by_run(tmp_path, monkeypatch):
    wandb, began = types.ModuleType("wandb"), []
    wandb.run = Job()
    wandb.init = lambda **settings: began.append(settings) or nullcontext()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(sys, "argv", ["train_vae.py"])
    run = new_run(tmp_path / "car")
    with track(True, run):
        curves = Curves(run, "vae")
        curves.write(20, {"r_loss": 3.5})
        curves.close()
    [settings] = began
    assert (settings["group"], settings["job_type"], settings["config"]["task"]) == ("car", "train_vae", "carracing")
    assert wandb.run.metrics == [("vae/*", "vae/step")]
    assert wandb.run.logged == [{"vae/step": 20, "vae/r_loss": 3.5}]
    assert list((tmp_path / "car" / "tensorboard" / "vae").iterdir())


def test_without_the_package_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = new_run(tmp_path / "car")
    with pytest.raises(UserError, match=r"--track: .* pip install wandb"), track(True, run):
        pass
    with track(False, run):
        Curves(run, "vae").close()


def test_without_a_login_one_line_says_how_to_log_in(tmp_path, monkeypatch):
    wandb = types.ModuleType("wandb")
    wandb.errors = types.SimpleNamespace(Error=type("Error", (Exception,), {}))

    def refuse(**settings):
        raise wandb.errors.Error("api_key not configured\nmore")

    wandb.init = refuse
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    refused = r"--track: Weights & Biases refuses \(api_key not configured\); log in with: wandb login$"
    with pytest.raises(UserError, match=refused), track(True, new_run(tmp_path / "car")):
        pass


def test_a_resumed_training_drops_the_later_points_of_tensorboard(tmp_path):
    run = new_run(tmp_path / "car")
    for done, steps in ((0, (20, 40, 60)), (20, (40, 60, 80))):
        curves = Curves(run, "vae", done)
        for step in steps:
            curves.write(step, {"r_loss": float(step + done)})
        curves.close()
    shown = EventAccumulator(str(run / "tensorboard/vae")).Reload()
    found = [(event.step, event.value) for event in shown.Scalars("r_loss")]
    assert found == [(20, 20.0), (40, 60.0), (60, 80.0), (80, 100.0)]
