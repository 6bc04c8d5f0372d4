"""What the user's account sets for other programs, such as a notebook's, does not reach these."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

# What V, a compiled game and the search need, as one program of ours imports them.
PROGRAM = """
from vae.model import VAE
from world_models.quiet import tf
import keras, numba, matplotlib
from controller import search
from world_models.tasks import compiled
mu, _ = VAE(32).encode(tf.zeros((2, 64, 64, 3)))
print(keras.config.backend(), mu.dtype.name, mu.shape, numba.config.DISABLE_JIT)
"""
EXPECTED = ["tensorflow float32 (2, 32) 0"]


def output(program: str, variables: dict[str, str], folder) -> list[str]:
    """The lines that a program prints in a folder, with variables of the environment."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_keras_numba_and_matplotlib_of_other_programs(tmp_path):
    settings = {"floatx": "float16", "image_data_format": "channels_first", "backend": "jax", "epsilon": 0.1}
    settings["nnx_enabled"] = True
    (tmp_path / "keras.json").write_text(json.dumps(settings), encoding="utf-8")
    (tmp_path / ".numba_config.yaml").write_text("disable_jit: 1\n", encoding="utf-8")
    variables = {
        "MPLBACKEND": "module://no_such_package.backend_inline",
        "KERAS_BACKEND": "torch",
        "KERAS_HOME": str(tmp_path),
        "KERAS_NNX_ENABLED": "true",
        "XLA_FLAGS": "--xla_no_such_flag=1",
        "PYTHONWARNINGS": "error",
        "NUMBA_DISABLE_JIT": "1",
    }
    assert output(PROGRAM, variables, tmp_path) == EXPECTED


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "gtk3agg", "nonsense", "module://"])
def test_a_backend_of_matplotlib_that_is_not_installed(backend, tmp_path):
    assert output("import controller.search; print(1)", {"MPLBACKEND": backend}, tmp_path) == ["1"]


def test_figures_do_not_need_what_a_users_matplotlibrc_asks_for(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: gtk3agg\n", encoding="utf-8")
    program = """
from pathlib import Path
from matplotlib.figure import Figure
from tools.reporting.plots import save
figure = Figure()
figure.text(0, 0, "$\\\\tau$ and 50%")
print(*(path.name for path in save(figure, Path("figure"))))
"""
    assert output(program, {}, tmp_path) == ["figure.png figure.pdf"]


def test_the_commit_is_that_of_this_code_whatever_repository_is_set(tmp_path):
    program = "from world_models.runs.manifest import commit; print(commit())"
    subprocess.run(["git", "init", "-q", tmp_path / "other"], check=True)
    assert output(program, {"GIT_DIR": str(tmp_path / "other/.git")}, tmp_path) == output(program, {}, tmp_path)


def test_a_users_page_stays_utf_8_whatever_the_systems_encoding_is(tmp_path):
    page = "Übermäßig ±\n<!-- results -->\n<!-- end of results -->\n"
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    program = (
        "from pathlib import Path; from tools.reporting.markup import fill; fill(Path('page.md'), {'results': 'x\\n'})"
    )
    output(program, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, tmp_path)
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page.replace("-->\n<", "-->\nx\n<")
