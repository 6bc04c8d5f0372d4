"""A run's task may name a package: one is imported where it is installed, or the user names it; no other."""

import json

import pytest
from small_run import edit_json, small

from tools.reporting.runs import read_run
from world_models import command_line, results, tasks
from world_models.config import UserError
from world_models.runs import run_dir, storage

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
        run = tmp_path / "runs" / "foo"
        run_dir.save(small(), run)
        folder = tmp_path / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(PACKAGE.format(name))
        for on_path in (tmp_path, folder):
            monkeypatch.syspath_prepend(str(on_path))
        edit_json(run / "config.json", task=f"gymnasium:{name}:{name}-v0", policy="held")
        return run, folder / "imported"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "NAMED", set())
    return make


@pytest.mark.parametrize("place", [".", "runs", "runs/foo", "runs/foo/below"])
def test_a_run_imports_nothing_from_where_its_files_lie(place, packaged):
    run, imported = packaged(place, f"stranger{len(place)}")
    with pytest.raises(UserError, match=r"config\.json is not a run's configuration: task .* install it .* say --task"):
        run_dir.load(run)
    with pytest.raises(UserError, match="install it"):
        run_dir.open_run(run, {})
    assert not imported.exists()


@pytest.mark.parametrize("module", ["runs.foo.evil", "antigravity", "nowhere"])
def test_a_run_imports_no_part_of_a_folder_and_nothing_that_is_no_package(module, packaged):
    run, imported = packaged("runs/foo", "evil")
    edit_json(run / "config.json", task=f"gymnasium:{module}:evil-v0")
    with pytest.raises(UserError, match=rf"config\.json .*imports {module.partition('.')[0]}, which"):
        run_dir.load(run)
    assert not imported.exists()


def test_an_installed_package_is_imported_and_one_that_the_user_names(packaged):
    run, imported = packaged("site-packages", "installed")
    assert run_dir.load(run).task == "gymnasium:installed:installed-v0" and imported.exists()
    run, imported = packaged(".", "own")
    with pytest.raises(UserError, match="say --task gymnasium:own:own-v0 too"):
        run_dir.load(run)
    args = command_line.parser("").parse_args(["--run", str(run), "--task", "gymnasium:own:own-v0"])
    assert run_dir.open_run(run, command_line.overrides(args)).task == "gymnasium:own:own-v0" and imported.exists()


@pytest.mark.parametrize("name", ["a:b:c", ":x", "a:", "a b:x", "..a:x", ""])
def test_a_misspelt_package_is_one_line(name):
    with pytest.raises(UserError, match="expected gymnasium:ID or gymnasium:PACKAGE:ID"):
        tasks.get(f"gymnasium:{name}")


def test_a_row_of_another_task_is_refused_before_its_package_is_looked_for(packaged):
    run, imported = packaged(".", "row")
    edit_json(run / "config.json", task="carracing", policy="release")
    row = results.identity(small()) | {"episodes": 1, "mean": 1.0, "std": 0.0, "task": "gymnasium:row:row-v0"}
    storage.write_text(run / "results.json", json.dumps({"results": [row]}))
    for read in (lambda: results.read(run / "results.json"), lambda: read_run(run, "foo")):
        with pytest.raises(UserError, match=r"results\.json is another run's: task gymnasium:row:row-v0, config\.json"):
            read()
    assert not imported.exists()
