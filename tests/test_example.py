"""The example program, with the shipped agents."""

import os
import re
import subprocess
import sys

import imageio
import pytest
from conftest import ROOT, run_script, user_error


@pytest.mark.parametrize(("task", "low", "high"), [("carracing", 400, 950), ("doom", 400, 2100)])
def test_the_rollout_plays_a_shipped_agent_and_films_it(task, low, high, tmp_path):
    """As well as only an agent does that sees z, h and c: a random player of Doom survives 205 steps."""
    film = tmp_path / "film.mp4"
    run = ROOT / "pretrained" / task
    done = run_script("examples.rollout", "--run", run, "--seed", "2", "--render", film)
    [total] = re.findall(r"^return: (-?[\d.]+)$", done.stdout, re.M)
    assert low < float(total) <= high
    with imageio.get_reader(film) as reader:
        frames = reader.count_frames()
        assert reader.get_data(0).shape == (256, 256, 3)
    # CarRacing is over when the last tile is visited: all tiles together earn 1000, each frame costs 0.1.
    ends = {1000, round(10 * (1000 - float(total)))} if task == "carracing" else {float(total)}  # a step, a reward of 1
    assert frames in ends


def test_ppo_without_its_packages_is_one_line(tmp_path):
    (tmp_path / "torch.py").write_text("import no_such_torch\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "examples.stable_baselines", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode and not done.stdout
    [line] = done.stderr.splitlines()
    assert "No module named 'no_such_torch'" in line and "pip install torch stable-baselines3" in line


def test_the_rollout_is_one_screen_without_mpi():
    """The whole method, as in the paper's pseudo-code."""
    code = "import sys; sys.modules['mpi4py'] = None\nfrom examples.rollout import rollout\n"
    code += "import inspect; print(len(inspect.getsource(rollout).splitlines()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert int(done.stdout) <= 30


def test_a_film_of_an_unknown_kind_is_one_line(tmp_path):
    said = user_error("examples.rollout", "--render", tmp_path / "film.xyz")
    assert "expected a file that ends with .mp4 or .gif" in said
    (tmp_path / "folder.mp4").mkdir()
    said = user_error("examples.rollout", "--render", tmp_path / "folder.mp4")
    assert "expected a file that ends with .mp4 or .gif" in said
    assert "expected 0 or more, got -1" in user_error("examples.rollout", "--seed", "-1")
