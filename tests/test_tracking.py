"""Curves that are sent elsewhere while they grow, with a stand-in for Weights & Biases."""

import sys
import types
from contextlib import nullcontext

import pytest

from world_models import tasks
from world_models.config import UserError
from world_models.tracking import Curves, track


class Run:
    def __init__(self):
        self.metrics, self.logged = [], []

    def define_metric(self, name, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, values):
        self.logged.append(values)


def test_curves_are_sent_grouped_by_run(tmp_path, monkeypatch):
    wandb, began = types.ModuleType("wandb"), []
    wandb.run = Run()
    wandb.init = lambda **settings: began.append(settings) or nullcontext()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(sys, "argv", ["train_vae.py"])
    with track(True, tmp_path / "car", tasks.preset("carracing", "smoke")):
        curves = Curves(tmp_path / "car", "vae")
        curves.write(20, {"r_loss": 3.5})
        curves.close()
    [settings] = began
    assert (settings["group"], settings["job_type"], settings["config"]["task"]) == ("car", "train_vae", "carracing")
    assert wandb.run.metrics == [("vae/*", "vae/step")]
    assert wandb.run.logged == [{"vae/step": 20, "vae/r_loss": 3.5}]
    assert list((tmp_path / "car" / "tensorboard" / "vae").iterdir())


def test_without_the_package_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = tasks.preset("carracing", "smoke")
    with pytest.raises(UserError, match=r"--track: .* pip install wandb"), track(True, tmp_path, config):
        pass
    with track(False, tmp_path, config):
        Curves(tmp_path, "vae").close()
