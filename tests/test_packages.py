"""Packages of the user: which of them a run may import, and names that they share with this project."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from small_run import edit_json, new_run, trust

from world_models import command_line, tasks
from world_models.config import UserError
from world_models.runs import config_file
from world_models.runs.begin import begin

PACKAGE = """
from pathlib import Path
import gymnasium
Path(__file__).with_name("imported").touch()
gymnasium.register("{}-v0", entry_point="gymnasium.envs.classic_control.pendulum:PendulumEnv")
"""


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """make(place, NAME) -> a run whose task is gymnasium:NAME:NAME-v0, after a package of that name was written to a
    `place` below tmp_path, which is on the path of imports, as the working directory is."""

    def make(place: str, name: str):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        run = new_run(tmp_path / "runs/foo").path
        folder = tmp_path / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(PACKAGE.format(name))
        for on_path in (tmp_path, folder):
            monkeypatch.syspath_prepend(str(on_path))
        edit_json(run / "config.json", task=f"gymnasium:{name}:{name}-v0", policy="held")
        return run, folder / "imported"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "TRUSTED_TASKS", set())
    return make


@pytest.mark.parametrize("place", [".", "runs", "runs/foo", "runs/foo/below"])
def test_a_run_imports_nothing_from_where_its_files_lie(place, packaged):
    run, imported = packaged(place, f"stranger{len(place)}")
    with pytest.raises(UserError, match=r"config\.json does not hold settings: .*install"):
        config_file.load(run)
    with pytest.raises(UserError, match="install"):
        begin(run, {})
    assert not imported.exists()


@pytest.mark.parametrize("module", ["runs.foo.evil", "antigravity", "nowhere"])
def test_a_run_imports_no_part_of_a_folder_and_nothing_that_is_not_a_package(module, packaged):
    run, imported = packaged("runs/foo", "evil")
    edit_json(run / "config.json", task=f"gymnasium:{module}:evil-v0")
    with pytest.raises(UserError, match=rf"config\.json .*imports {module.partition('.')[0]}, which"):
        config_file.load(run)
    assert not imported.exists()


def test_an_installed_package_is_imported_and_one_that_the_user_names(packaged):
    run, imported = packaged("site-packages", "installed")
    assert config_file.load(run).task == "gymnasium:installed:installed-v0" and imported.exists()
    run, imported = packaged(".", "own")
    with pytest.raises(UserError, match="--task gymnasium:own:own-v0"):
        config_file.load(run)
    args = command_line.parser("").parse_args(["--run", str(run), "--task", "gymnasium:own:own-v0"])
    trust(run, "config.json")
    assert begin(run, command_line.overrides(args)).config.task == "gymnasium:own:own-v0" and imported.exists()


@pytest.mark.parametrize("name", ["a:b:c", ":x", "a:", "a b:x", "..a:x", "", "pip.__main__:x", "__main__:x"])
def test_a_misspelt_package_is_one_line(name):
    with pytest.raises(UserError, match="expected gymnasium:ID or gymnasium:PACKAGE:ID"):
        tasks.get(f"gymnasium:{name}")


MAKE = """
import json, gymnasium
game = gymnasium.make("world_models:WorldModels/CarRacing-v0")
frame, _ = game.reset(seed=1)
dream = gymnasium.make("doom_rnn:WorldModels/DoomRNN-v0", run={!r})
seen, _ = dream.reset(seed=1)
import config, env, tools, common
print(json.dumps([frame.shape, seen.shape, [module.OWN for module in (config, env, tools, common)]]))
"""


def test_a_users_project_may_have_modules_of_the_same_names(tmp_path):
    for name in ("config.py", "env.py", "tools/__init__.py", "common/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("OWN = True\n")
    (tmp_path / "project.py").write_text(MAKE.format(str(ROOT / "pretrained/doom")))
    done = subprocess.run(
        [sys.executable, "project.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[64, 64, 3], [1088], [True] * 4]
