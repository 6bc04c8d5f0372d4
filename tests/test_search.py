"""Every search that `--optimizer` names: it climbs, it resumes to identical numbers, and it refuses crafted files."""

import io
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import cma
import numpy as np
import pytest
from conftest import ROOT
from small_run import new_run, size_of

from controller import checkpoint
from controller.evolution import Evolution
from controller.search import CMAES, OpenAIES, centred_ranks, make_search
from world_models import config as configs
from world_models import tasks
from world_models.config import UserError
from world_models.runs import pickles
from world_models.stages.explorers import Explorers

EVERY = pytest.mark.parametrize("name", configs.OPTIMIZERS)
CMA = pytest.mark.parametrize("diagonal", [False, True])


def sphere(x: np.ndarray) -> np.ndarray:
    return -((x - 0.3) ** 2).sum(axis=1)


def search(name: str, size: int, population: int, seed: int = 0, start=None):
    config = replace(tasks.preset("carracing", "smoke"), optimizer=name, population=population)
    return make_search(config, size, np.random.default_rng(seed), start)


def advance(found, generations: int = 1):
    """The search, after some generations."""
    for _ in range(generations):
        found.tell(sphere(found.ask()))
    return found


@EVERY
def test_a_search_climbs(name):
    found = advance(search(name, 10, 16), 150)
    assert np.abs(found.best() - 0.3).max() < 0.05
    assert 0 < found.spread() < 0.5


@EVERY
@pytest.mark.parametrize(("size", "population"), [(120, 12), (867, 4), (100, 64)])
def test_a_search_resumes_to_identical_numbers(name, size, population, tmp_path):
    def run(stop: int | None) -> list[np.ndarray]:
        found, asked = search(name, size, population, 3), []
        for generation in range(12):
            asked.append(found.ask())
            assert asked[-1].shape == (population, size)
            found.tell(sphere(asked[-1]))
            if generation == stop:
                checkpoint.save(found, tmp_path / "state.npz", {"generation": generation})
                before = found.best()
                found = search(name, size, population, 99)
                assert checkpoint.restore(found, tmp_path / "state.npz") == {"generation": stop}
                np.testing.assert_array_equal(found.best(), before)
        return [*asked, found.best()]

    whole = run(None)
    for stop in (0, 7):
        for found, expected in zip(run(stop), whole, strict=True):
            np.testing.assert_array_equal(found, expected)


@CMA
def test_cma_es_equals_plain_pycma(diagonal):
    """The same draws give the same candidates and means, with the options that the release's pycma had by default."""
    rng = np.random.default_rng(5)
    options = {"popsize": 8, "AdaptSigma": cma.sigma_adaptation.CMAAdaptSigmaCSA, "CMA_diagonal": diagonal}
    options |= {"randn": lambda *shape: rng.standard_normal(shape), "seed": np.nan, "conditioncov_alleviate": False}
    plain = cma.CMAEvolutionStrategy(np.full(20, 0.5), 0.1, options | {"verbose": -9})
    ours = CMAES(20, 0.1, 8, np.random.default_rng(5), np.full(20, 0.5), diagonal)
    for _ in range(30):
        asked = ours.ask()
        expected = plain.ask()
        np.testing.assert_array_equal(asked, expected)
        ours.tell(sphere(asked))
        plain.tell(expected, [-score for score in sphere(asked)])
        np.testing.assert_array_equal(ours.best(), plain.mean)


@EVERY
def test_a_search_leaves_the_global_generator_alone(name):
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    advance(search(name, 5, 6), 6)
    assert np.random.random() == expected


def test_a_file_of_signals_does_not_steer_the_search(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cma_signals.in").write_text("{'timeout': 0, 'maxiter': 1, 'CMA_on': 0}\n", encoding="utf-8")
    found = search("cma", 3, 4)
    for _ in range(3):
        advance(found).search.stop()
    assert found.search.opts["CMA_on"] and found.search.opts["maxiter"] > 1


@EVERY
def test_a_search_starts_at_the_given_parameters(name):
    start = np.linspace(1, 2, 7)
    found = search(name, 7, 6, start=start)
    np.testing.assert_array_equal(found.best(), start)
    assert np.abs(found.ask() - start).max() < 1  # ten first steps
    with pytest.raises(ValueError, match=r"start: expected shape \(7,\), got \(3,\)"):
        search(name, 7, 6, start=np.zeros(3))


@EVERY
def test_agents_that_record_are_drawn_from_the_last_distribution(name, tmp_path):
    """They depend on the episode's number alone, and spread around the kept agent as the candidates do."""
    run = new_run(tmp_path / "run", optimizer=name, features="z", population=12)
    evolution = Evolution(run, size_of(run.config))
    for _ in range(15):
        candidates = evolution.search.ask()
        returns = sphere(candidates)[:, None]
        evolution.learn(candidates, np.zeros(returns.shape, int), returns, np.full(returns.shape, 60))
    evolution.evaluated(evolution.agents(), {"mean": np.array([1.0, 2.0])})
    evolution.save(1.0)
    explorers = Explorers(run, run.config)
    drawn = np.stack([explorers.agent(index).parameters for index in range(30)])
    kept = explorers.kept().parameters
    np.testing.assert_allclose(kept, evolution.search.best(), atol=1e-4)
    assert np.sqrt(np.mean((drawn - kept) ** 2)) == pytest.approx(evolution.search.spread(), rel=0.3)
    assert len(np.unique(drawn, axis=0)) == 30
    np.testing.assert_array_equal(Explorers(run, run.config).agent(7).parameters, drawn[7])


@EVERY
def test_a_score_that_is_not_finite_is_refused(name):
    found = search(name, 5, 6)
    found.ask()
    with pytest.raises(UserError, match="the score of candidate 2"):
        found.tell(np.array([1, 2, np.nan, 3, 4, 5]))


def refused(found, path, words: str = "") -> None:
    """A search refuses a checkpoint in one line."""
    with pytest.raises(UserError, match=rf"state\.npz .*{words}.*delete it"):
        checkpoint.restore(found, path)


@EVERY
def test_a_damaged_checkpoint_or_one_of_another_search_is_refused(name, tmp_path):
    path = tmp_path / "state.npz"
    checkpoint.save(advance(search(name, 5, 6)), path, {})
    for other in ((name, 6, 6), (name, 5, 8), *((one, 5, 6) for one in configs.OPTIMIZERS if one != name)):
        if {name, other[0]} != {"cma", "cma-diagonal"} and (other[1:] != (5, 8) or name != "openai-es"):
            refused(search(*other), path)
    path.write_bytes(path.read_bytes()[:-40])
    refused(search(name, 5, 6), path)


class Call:
    """Pickled, a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


OPTIONS = {"maxiter": "2 * N", "verbose": -9}
CRAFTED = {
    "a command": lambda: Call(os.system, "touch made"),
    "a search of options": lambda: Call(cma.CMAEvolutionStrategy, [0.0] * 5, 0.1, OPTIONS),
    "strategy parameters": lambda: Call(cma.options_parameters.CMAParameters, 5, cma.CMAOptions(OPTIONS)),
    "options": lambda: cma.CMAOptions(OPTIONS),
    "memory": lambda: Call(np.ndarray, (1 << 55,), np.dtype("u1")),
    "no search": lambda: {"mean": [0.0] * 5},
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_pickle_is_refused_and_runs_nothing(name, tmp_path, monkeypatch):
    """No constructor of pycma runs, which would evaluate options as code and write its logs."""
    path, found = tmp_path / "state.npz", search("cma", 5, 6)
    crafted = pickle.dumps(CRAFTED[name](), protocol=5)
    found.state = lambda: {"pickle": np.frombuffer(crafted, np.uint8)}
    checkpoint.save(found, path, {})
    victim = search("cma", 5, 6)
    monkeypatch.chdir(tmp_path)
    evaluated = []
    monkeypatch.setattr(cma.options_parameters, "eval", lambda *code: evaluated.append(code), raising=False)
    for kind in (cma.CMAEvolutionStrategy, cma.CMAOptions, cma.options_parameters.CMAParameters):
        monkeypatch.setattr(kind, "__init__", lambda *_, **__: pytest.fail("a constructor was run"))
    refused(victim, path, "is not a checkpoint of this search")
    assert not evaluated and {found.name for found in tmp_path.iterdir()} == {"state.npz"}


def test_the_classes_of_a_search_are_those_that_are_admitted():
    """A class that no search has is not admitted either."""
    named = set()

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, name: str) -> None:
            return None

        def find_class(self, module: str, name: str) -> object:
            named.add((module, name))
            return super().find_class(module, name)

    for diagonal in (False, True):
        for size, population in ((5, 6), (5, 4), (867, 64)):
            found = advance(CMAES(size, 0.1, population, np.random.default_rng(0), diagonal=diagonal), 1)
            Unpickler(io.BytesIO(found.state()["pickle"].tobytes())).load()
    assert named == {(module, name) for module, names in pickles.ADMITTED.items() for name in names}


def change(name: str, value) -> callable:
    """Sets an attribute of pycma's search."""
    return lambda found: setattr(found.search, name, value)


BROKEN = {
    "NaN in the mean": ("cma", change("mean", np.full(5, np.nan))),
    "complex numbers": ("cma", change("mean", np.full(5, 1j))),
    "a step size of NaN": ("cma", change("sigma", np.nan)),
    "a negative step size": ("cma", change("sigma", -1.0)),
    "another dimension": ("cma", change("N", 9)),
    "a method": ("cma-diagonal", change("ask", 3)),
    "another population": ("cma", lambda found: setattr(found.search.sp, "popsize", 8)),
    "Adam's moments": ("openai-es", lambda found: setattr(found, "second", -np.ones(5))),
    "an infinite mean": ("openai-es", lambda found: setattr(found, "center", np.full(5, np.inf))),
    "fewer steps than none": ("openai-es", lambda found: setattr(found, "steps", -7)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_state_that_cannot_go_on_is_refused(case, tmp_path):
    name, spoil = BROKEN[case]
    found = advance(search(name, 5, 6))
    spoil(found)
    checkpoint.save(found, tmp_path / "state.npz", {})
    refused(search(name, 5, 6), tmp_path / "state.npz", "is not a checkpoint of this search")


def test_a_fault_of_the_program_is_not_called_the_checkpoints(tmp_path, monkeypatch):
    """The user must not delete the search because of it."""
    checkpoint.save(search("cma", 3, 4), tmp_path / "state.npz", {})

    def fault(self):
        raise NameError("a fault")

    monkeypatch.setattr(CMAES, "ask", fault)
    with pytest.raises(NameError, match="a fault"):
        checkpoint.restore(search("cma", 3, 4), tmp_path / "state.npz")


def test_centred_ranks_by_hand():
    np.testing.assert_allclose(centred_ranks(np.array([30.0, -1.0, 7.0])), [0.5, -0.5, 0])
    np.testing.assert_allclose(centred_ranks(np.array([2.0, 2.0, 9.0])), [-0.25, -0.25, 0.5])
    np.testing.assert_allclose(centred_ranks(np.full(4, 5.0)), 0)


def test_openai_es_mirrors_its_noise_and_steps_by_adam():
    found = OpenAIES(3, 0.1, 4, np.random.default_rng(0), rate=0.01)
    asked = found.ask()
    np.testing.assert_allclose(asked[:2], -asked[2:])
    scores = np.array([3.0, 1.0, 0.0, 2.0])  # ranks 1/2, -1/6, -1/2, 1/6
    gradient = (asked[0] / 0.1 - asked[1] / 0.1 / 3) / (4 * 0.1)
    found.tell(scores)
    # Adam's first step is its rate along the gradient's sign, whatever its size.
    np.testing.assert_allclose(found.best(), 0.01 * np.sign(gradient), rtol=1e-6)
    np.testing.assert_allclose(found.first, 0.1 * gradient)
    before = found.best()
    noise = found.ask()[:2] - before
    found.tell(scores)
    second = (noise[0] / 0.1 - noise[1] / 0.1 / 3) / (4 * 0.1)
    first = (0.9 * 0.1 * gradient + 0.1 * second) / (1 - 0.9**2)
    square = (0.999 * 0.001 * gradient**2 + 0.001 * second**2) / (1 - 0.999**2)
    np.testing.assert_allclose(found.best() - before, 0.01 * first / np.sqrt(square), rtol=1e-5)


def test_the_curve_does_not_depend_on_the_threads_of_numpy():
    """867 parameters, as CarRacing's C: numpy decomposes such a matrix in threads."""
    code = (
        "import numpy as np; from controller.search import CMAES\n"
        "found = CMAES(867, 0.1, 64, np.random.default_rng(0))\n"
        "for _ in range(5): found.tell(-np.square(found.ask() - 1).sum(axis=1))\n"
        "print(found.best().tobytes().hex())"
    )
    printed = set()
    for threads in "12":
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
        printed.add(done.stdout)
    assert len(printed) == 1 and len(printed.pop()) > 867
