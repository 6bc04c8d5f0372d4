"""The choice of arithmetic under `--dtype auto`."""

import dataclasses
import subprocess
import sys

import pytest
from conftest import ROOT

from controller import precision
from world_models import tasks
from world_models.runs import run_dir
from world_models.training import save_weights

CONFIG = dataclasses.replace(tasks.preset("carracing", "smoke"), dtype="auto", lanes=4)


class Ranks:
    """A communicator of a rank whose other rank measured `other`."""

    rank, size = 0, 2

    def __init__(self, other: float):
        self.other = other

    def bcast(self, value):
        return value

    def allgather(self, value) -> list:
        return [value, self.other]


@pytest.mark.parametrize(
    ("mine", "other", "chosen"),
    [(1.5, 1.4, "bfloat16"), (1.5, 0.9, "float32"), (1.02, 1.5, "float32"), (0.8, 0.8, "float32")],
)
def test_bfloat16_is_taken_only_where_every_rank_is_faster(monkeypatch, tmp_path, mine, other, chosen):
    monkeypatch.setattr(precision.mpi, "on_all_ranks", lambda *_: mine)
    assert precision.choose_dtype(Ranks(other), tmp_path, CONFIG, None) == chosen


def test_nothing_is_measured_where_the_choice_is_made(tmp_path):
    """By the run, by the part of the search before, or since a dream has nothing to encode."""
    asked = dataclasses.replace(CONFIG, dtype="bfloat16")
    assert precision.choose_dtype(Ranks(1), tmp_path, asked, None) == "bfloat16"
    assert precision.choose_dtype(Ranks(1), tmp_path, CONFIG, "bfloat16") == "bfloat16"
    dream = dataclasses.replace(tasks.preset("doom", "smoke"), dtype="auto")
    assert precision.choose_dtype(Ranks(1), tmp_path, dream, None) == "float32"


def test_gain_is_the_ratio_of_the_fastest_calls(monkeypatch):
    clock = iter([0, 0.0, 0.4, 0.4, 0.6, 0.6, 0.6, 0.9, 0.9, 1.0, 9.0])  # 0.4 and 0.2 s, then 0.3 and 0.1; time is up
    monkeypatch.setattr(precision.time, "perf_counter", lambda: next(clock))
    assert precision.gain(lambda: None, lambda: None) == pytest.approx(0.3 / 0.1)


def test_the_agents_step_is_measured_here(tmp_path):
    from world_models.world_model import make_rnn, make_vae

    save_weights(make_vae(CONFIG), tmp_path / "vae.weights.h5")
    save_weights(make_rnn(CONFIG), tmp_path / "rnn.weights.h5")
    run_dir.save(CONFIG, tmp_path)
    measure = (
        "import pathlib; from common import run_dir; from controller import precision; "
        f"run = pathlib.Path({str(tmp_path)!r}); made = []; make = precision.make_agent; "
        "precision.make_agent = lambda config, *rest: made.append(config.dtype) or make(config, *rest); "
        "print(precision.gain_of_bfloat16(run, run_dir.load(run)), *made)"
    )
    # In a process of its own: how many threads TensorFlow has is decided once.
    done = subprocess.run([sys.executable, "-c", measure], cwd=ROOT, capture_output=True, text=True, check=True)
    gain, slow, fast = done.stdout.split()
    assert float(gain) > 0 and (slow, fast) == ("float32", "bfloat16")
