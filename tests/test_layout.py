"""The layout: imports go one way, and only tasks/ knows which tasks there are."""

import ast
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT

# Each may import from itself and from what stands before it.
ORDER = ("config", "tasks", "common", "env", "vae", "rnn", "world_model", "doom_rnn", "controller")
STAGES = ("extract", "train_vae", "train_rnn", "train_controller", "train_all", "evaluate")
LAST = ("tools", "examples")
TASK_NAMES = ("carracing", "doom")
# These measure the two published tasks by name.
NAMES_ALLOWED = ("tools/bench.py", "tools/speeds.py")


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """Every module but the tests, as (path from the root, syntax tree)."""
    folders = [name for name in (*ORDER, *LAST) if (ROOT / name).is_dir()]
    for path in [*ROOT.glob("*.py"), *(path for name in folders for path in (ROOT / name).rglob("*.py"))]:
        yield path.relative_to(ROOT), ast.parse(path.read_text())


def rank(package: str) -> int | None:
    """A package's place in the order; None if it is not ours. Stages are alike, and so are tools and examples."""
    if package in ORDER:
        return ORDER.index(package)
    return len(ORDER) if package in STAGES else len(ORDER) + 1 if package in LAST else None


def imports(tree: ast.Module) -> Iterator[str]:
    """The packages that a module imports, also inside of functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used"
            yield node.module.partition(".")[0]


def test_imports_go_one_way():
    back, count = [], 0
    for path, tree in modules():
        own = path.parts[0].removesuffix(".py")
        assert rank(own) is not None, f"{path} has no place in the order"
        for package in imports(tree):
            if rank(package) is not None and package != own:
                count += 1
                if rank(package) >= rank(own):
                    back.append(f"{path} imports {package}")
    assert not back and count > 100


def test_the_top_level_is_the_stages_and_what_they_share():
    assert {path.stem for path in ROOT.glob("*.py")} == {"config", "env", "world_model", *STAGES}


def test_no_code_outside_tasks_asks_which_task_it_has():
    found = []
    for path, tree in modules():
        if path.parts[0] == "tasks":
            continue
        for node in ast.walk(tree):
            named = isinstance(node, ast.Constant) and node.value in TASK_NAMES
            if named and str(path) not in NAMES_ALLOWED:
                found.append(f"{path}:{node.lineno} names {node.value}")
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In):
                operands = [node.left, *node.comparators]
                values = [operand.value for operand in operands if isinstance(operand, ast.Constant)]
                if any(value in TASK_NAMES for value in values):
                    found.append(f"{path}:{node.lineno} compares a task's name")
    assert not found
