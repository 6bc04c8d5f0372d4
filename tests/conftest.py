"""What several tests need: quiet TensorFlow, and one small run made by the real commands."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from warm import Warm

from tools import launcher
from world_models.training import quiet_tensorflow, use_one_core

# Compiled functions are kept for the commands and workers to come, which compile the same.
KEPT = None if "TF_XLA_FLAGS" in os.environ else tempfile.mkdtemp(prefix="compiled-")
if KEPT:
    os.environ["TF_XLA_FLAGS"] = (
        f"--tf_xla_persistent_cache_directory={KEPT} --tf_xla_persistent_cache_device_types=XLA_CPU_JIT,CPU,XLA_CPU"
    )
quiet_tensorflow()
use_one_core()  # as each rank does, before TensorFlow starts

WARM = Warm()

ROOT = Path(__file__).parent.parent
SHIPPED = ("doom", "carracing")  # the agents that the page of dreams is tested with
# Small enough for a test, and every stage real.
SMALL = {
    "carracing": "--max-frames 60 --episodes 4 --vae-epochs 1 --vae-batch 60 --rnn-steps 4 --rnn-batch 4 "
    "--rnn-length 40 --population 4 --rollouts 2 --generations 5 --eval-every 2 --eval-episodes 3 --lanes 4",
    "doom": "--episodes 5 --vae-epochs 1 --rnn-steps 4 --rnn-batch 4 --rnn-length 40 --max-frames 150 "
    "--population 4 --rollouts 2 --generations 2 --eval-every 2 --eval-episodes 3 --lanes 4",
}


def mpirun(ranks: int) -> list[str]:
    """The beginning of a command under mpirun; nothing for 0 ranks."""
    if not ranks:
        return []
    return launcher.mpirun(ranks)


def run_script(*command: str | Path, ranks: int = 0, check: bool = True) -> subprocess.CompletedProcess:
    """Runs a script, or a module ("tools.pack"), in a process of its own; under mpirun if `ranks` is given."""
    script, *rest = command
    program = ["-m", script] if str(script).startswith(("tools.", "examples.")) else [ROOT / script]
    command = [str(part) for part in (*program, *rest)]
    if ranks:
        done = subprocess.run([*mpirun(ranks), sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            status = WARM.run(command, ROOT, out, err, dict(os.environ))
            done = subprocess.CompletedProcess(
                command, status, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")
            )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def make_run(run: Path, task: str) -> Path:
    """All stages but the evolution, small."""
    flags = ["--task", task, "--preset", "smoke", *SMALL[task].split()]
    run_script("extract.py", "--run", run, *flags, ranks=3)
    run_script("train_vae.py", "--run", run)
    run_script("train_rnn.py", "--run", run)
    return run


def need_program(*names: str) -> str:
    """A program's path; skips the test where it is missing, but fails in continuous integration."""
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        message = f"{' or '.join(names)} is not installed: the page is not tested"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def made_once(tmp_path_factory, name: str, make: Callable[[Path], object]) -> Path:
    """A copy of a folder that the first of the suite's workers to need it makes, while the others wait."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    made = shared / f"made-{name}"
    with open(shared / f"{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make(shared / f"making-{name}")
            (shared / f"making-{name}").rename(made)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp(name) / name, symlinks=True))


def copy_of(run: Path, to: Path) -> Path:
    """A run to evolve in, with the same V and M."""
    shutil.copytree(run, to, symlinks=True, ignore=shutil.ignore_patterns("controller", "results.json", "videos"))
    return to


def user_error(*command, ranks: int = 0) -> str:
    """The one line that a failing command says."""
    done = run_script(*command, ranks=ranks, check=False)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    return lines[0]


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The shipped agents' page."""
    from tools.page.__main__ import build

    runs = [ROOT / "pretrained" / name for name in SHIPPED]
    return made_once(tmp_path_factory, "site", lambda out: build(runs, out))


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    path = need_program("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, site):
    """Opens a run's page, paused after three steps of a dream that is the same whenever it is opened, however fast the
    machine is; fails at the end if the console or the page said an error."""
    from small_page import BEGIN, DESK

    said, pages = [], []

    def opens(name: str, viewport: dict | None = None, **options):
        page = chromium.new_page(viewport=viewport or DESK, **options)
        page.set_default_timeout(120_000)
        pages.append(page)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{(site / 'index.html').as_uri()}#{name}")
        page.wait_for_function("state.run && state.dream.steps > 0")  # it plays by itself
        page.evaluate(f"{BEGIN}; for (let k = 0; k < 3; k++) advance()")
        return page

    yield opens
    for page in pages:
        page.close()
    assert said == []


@pytest.fixture(scope="session")
def car(tmp_path_factory) -> Path:
    """A run with its report, by the command."""
    from small_report import make_car

    path = make_car(tmp_path_factory.mktemp("report") / "car")
    (path / "videos").mkdir()
    (path / "videos" / "carracing-v0-best.mp4").touch()
    done = run_script("tools.report", path)
    assert done.stdout.splitlines() == [str(path / "report" / f"report.{ending}") for ending in ("md", "html", "tex")]
    return path


@pytest.fixture(scope="session")
def car_run(tmp_path_factory) -> Path:
    """A CarRacing run with V and M, ready to evolve C."""
    return made_once(tmp_path_factory, "car", lambda run: make_run(run, "carracing"))


@pytest.fixture(scope="session")
def doom_run(tmp_path_factory) -> Path:
    """A Doom run with V and M."""
    return made_once(tmp_path_factory, "doom", lambda run: make_run(run, "doom"))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Path:
    """The folder of a small run with an agent whose scores are invented. Tests do not write to it."""
    from small_run import evolve, make_run

    path = tmp_path_factory.mktemp("made") / "run"
    evolve(make_run(path))
    return path


@pytest.fixture
def copied(small_run, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(small_run, tmp_path / "run")


def pytest_sessionfinish():
    WARM.close()
    if KEPT:
        shutil.rmtree(KEPT, ignore_errors=True)
