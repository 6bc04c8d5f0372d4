"""The layout: imports go one way, and only tasks/ knows which tasks there are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from conftest import ROOT

# Each may import from its own row and from those before it. A module's row is that of its longest prefix here.
ORDER = (
    ("world_models.config", "world_models.presets"),
    ("world_models.tasks", "world_models.runs", "world_models"),
    ("vae",),
    ("rnn",),
    ("world_models.world_model",),
    ("doom_rnn",),
    ("controller",),
    ("world_models.stages", "world_models.pretrained"),
    ("env", "extract", "train_vae", "train_rnn", "train_controller", "train_all", "evaluate"),
    ("tools", "examples"),
)
TASK_NAME = re.compile(r"car_?racing|take_?cover|vizdoom|doom(?!_?rnn\b)", re.I)
# These measure the two published tasks by name, next to their published speed; say how the release's files of each
# differ; or play a shipped agent.
NAMES_ALLOWED = {f"tools/{name}.py" for name in ("bench", "convert", "release")}
NAMES_ALLOWED |= {"examples/rollout.py"}
# A rank that fails shows its traceback and ends the job. The user's environment, or a damaged cache of numba, may
# raise anything.
CATCH_ALL = {"world_models/mpi.py", "world_models/tasks/compiled.py", "world_models/tasks/gymnasium_task.py"}


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """Every module but the tests, as (path from the root, syntax tree)."""
    for path in ROOT.rglob("*.py"):
        path = path.relative_to(ROOT)
        if path.parts[0] != "tests" and not path.parts[0].startswith("."):
            yield path, ast.parse((ROOT / path).read_text())


def rank(module: str) -> int | None:
    """A module's row in the order; None if it is not ours."""
    while module:
        for place, row in enumerate(ORDER):
            if module in row:
                return place
        module = module.rpartition(".")[0]
    return None


def imports(tree: ast.Module) -> Iterator[str]:
    """The modules that a module imports, also inside of functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def backward(path: Path, tree: ast.Module) -> list[str]:
    """A module's imports that point against the order."""
    own = rank(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    assert own is not None, f"{path} has no place in the order"
    return [f"{path} imports {name}" for name in imports(tree) if (place := rank(name)) is not None and place > own]


def task_names(tree: ast.Module) -> Iterator[str]:
    """The places where code, not a docstring, names a task: a string, or a variable or attribute."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        text = {ast.Constant: "value", ast.Name: "id", ast.Attribute: "attr"}.get(type(node))
        word = getattr(node, text) if text and id(node) not in docstrings else None
        if isinstance(word, str) and TASK_NAME.search(word):
            yield f"{node.lineno}: {word}"


def hiding(tree: ast.Module) -> Iterator[int]:
    """Lines of handlers that catch every exception and do not raise it again: they would hide a bug."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = getattr(node.type, "id", None) if node.type else "Exception"
            raises = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
            if caught in ("Exception", "BaseException") and not raises:
                yield node.lineno


def test_imports_go_one_way():
    found = [line for path, tree in modules() for line in backward(path, tree)]
    assert not found
    arrow = ast.parse("def late():\n    from controller.search import CMAES")
    assert backward(Path("rnn/model.py"), arrow) == ["rnn/model.py imports controller.search.CMAES"]
    assert not backward(Path("tools/report.py"), arrow)


def unexplained(source: str) -> list[int]:
    """Lines of functions whose first import does not say why it stands there: "# here: ..."."""
    lines, found = source.splitlines(), []
    for function in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)):
        late = [node.lineno for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
        if late and not any("# here" in line for line in lines[min(late) - 2 : min(late)]):
            found.append(min(late))
    return found


def test_an_import_inside_a_function_says_why():
    assert not {str(path): found for path, _ in modules() if (found := unexplained((ROOT / path).read_text()))}
    late = "def f():\n    import tensorflow{}"
    assert [unexplained(late.format(why)) for why in ("", "  # here: f alone needs it")] == [[2], []]


def test_the_top_level_is_the_stages_and_what_they_share():
    top = {path.stem for path in ROOT.glob("*.py")}
    assert top == set(ORDER[-2])


def test_no_code_outside_tasks_names_a_task():
    found = {
        f"{path}:{place}"
        for path, tree in modules()
        if path.parts[:2] != ("world_models", "tasks") and str(path) not in NAMES_ALLOWED
        for place in task_names(tree)
    }
    assert not found
    branch = (
        'def f(config):\n    """Doom\'s."""\n    return config.task == "doom", "view of CarRacing", Doom, "doom_rnn"'
    )
    assert set(task_names(ast.parse(branch))) == {"3: doom", "3: view of CarRacing", "3: Doom"}


def test_no_handler_hides_a_bug():
    found = {str(path) for path, tree in modules() for _ in hiding(tree)}
    assert found <= CATCH_ALL
    broad = "try:\n    f()\nexcept {}:\n    {}"
    kinds = [("Exception", "pass"), ("", "pass"), ("Exception", "raise UserError()")]
    kinds += [("Exception", "raise"), ("ValueError", "pass")]
    assert [len(list(hiding(ast.parse(broad.format(*kind))))) for kind in kinds] == [1, 1, 1, 0, 0]
