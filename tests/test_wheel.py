"""The wheel: what it contains, and the environments that it offers in a folder of the user's own."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import ROOT, made_once

PACKAGES = ("world_models", "vae", "rnn", "controller", "doom_rnn")
OTHERS = ("config.py", "env.py", "evaluate.py", "tools/__init__.py", "common/__init__.py", "tasks/__init__.py")

CARRACING = """
import gymnasium
env = gymnasium.make("world_models:WorldModels/CarRacing-v0")
assert env.observation_space.shape == (64, 64, 3)
loaded = sorted({"tensorflow", "keras", "mpi4py", "vizdoom"} & set(sys.modules))
assert not loaded, loaded
"""
DREAM = """
import gymnasium
env = gymnasium.make("doom_rnn:WorldModels/DoomRNN-v0", run=run)
observation, _ = env.reset(seed=1)
assert env.step(env.action_space.sample())[0].shape == observation.shape == (64 + 2 * 512,)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The folder of the unpacked wheel, built without a network from a copy of the sources."""
    if int(version("setuptools").partition(".")[0]) < 77:
        pytest.skip("setuptools is older than 77: pip install -r requirements-dev.txt")

    def make(folder: Path) -> None:
        source, built = folder / "source", folder / "built"
        for name in (*PACKAGES, "tools", "tests"):
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (*ROOT.glob("*.py"), ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "LICENSE"):
            shutil.copy(path, source)
        pip = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index"]
        done = subprocess.run([*pip, "-w", built, source], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        (path,) = built.glob("*.whl")
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder / "unpacked")

    return made_once(tmp_path_factory, "wheel", make) / "unpacked"


def run_elsewhere(wheel: Path, folder: Path, code: str, *options: str) -> None:
    """Runs code in a folder, with a wheel and this Python's installed packages. The clone is not on the path."""
    paths = [str(wheel), sysconfig.get_path("purelib")]
    begin = f"import site, sys; sys.path.insert(1, {paths[0]!r}); site.addsitedir({paths[1]!r})\n"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    call = [sys.executable, *options, "-c", begin + code]
    done = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_wheel_contains_the_packages_and_nothing_else(wheel):
    top = {path.name for path in wheel.iterdir() if path.suffix != ".dist-info"}
    assert top == set(PACKAGES)
    missing = [
        path.relative_to(ROOT)
        for name in PACKAGES
        for path in (ROOT / name).rglob("*.*")
        if "__pycache__" not in path.parts and not (wheel / path.relative_to(ROOT)).exists()
    ]
    assert missing == []


def test_carracing_from_the_wheel_loads_neither_tensorflow_nor_mpi(wheel, tmp_path):
    run_elsewhere(wheel, tmp_path, CARRACING, "-I")


def test_the_environments_work_in_a_folder_with_modules_of_the_same_names_as_the_clone_s(wheel, tmp_path):
    for name in OTHERS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise RuntimeError('this is the module of the user')\n", encoding="utf-8")
    run_elsewhere(wheel, tmp_path, CARRACING)
    run_elsewhere(wheel, tmp_path, f"run = {str(ROOT / 'pretrained/doom')!r}\n{DREAM}")


def test_the_package_lists_its_environments_and_commands(wheel, tmp_path):
    run_elsewhere(wheel, tmp_path, "import runpy; runpy.run_module('world_models', run_name='__main__')", "-I")
