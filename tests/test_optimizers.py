"""Every search that `--optimizer` names: it climbs, it resumes to the same numbers; and steps worked out by hand."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from controller.evolution import Evolution
from controller.optimizers import OPTIMIZERS, GeneticAlgorithm, OpenAIES, centred_ranks, make_optimizer
from controller.policy import Controller
from world_models import config as configs
from world_models import tasks
from world_models.config import UserError
from world_models.runs import run_dir
from world_models.stages.explorers import Explorers

EVERY = pytest.mark.parametrize("name", OPTIMIZERS)


def sphere(x: np.ndarray) -> np.ndarray:
    return -((x - 0.3) ** 2).sum(axis=1)


def search(name: str, size: int, population: int, seed: int = 0, x0=None):
    config = dataclasses.replace(tasks.preset("carracing", "smoke"), optimizer=name, population=population)
    return make_optimizer(config, size, np.random.default_rng(seed), x0)


def test_the_flag_names_what_can_be_made():
    assert set(configs.OPTIMIZERS) == set(OPTIMIZERS)


@EVERY
def test_it_climbs(name):
    es = search(name, 10, 16)
    for _ in range(150):
        es.tell(sphere(es.ask()))
    assert np.abs(es.best() - 0.3).max() < (0.05 if name != "ga" else 0.15)  # the GA's noise does not shrink
    assert 0 < es.spread() < 0.5


@EVERY
@pytest.mark.parametrize(("size", "population"), [(120, 12), (867, 4), (100, 64)])
def test_it_resumes_to_the_bit(name, size, population, tmp_path):
    def run(stop: int | None) -> list[np.ndarray]:
        es, asked = search(name, size, population, 3), []
        for generation in range(12):
            asked.append(es.ask())
            assert asked[-1].shape == (population, size)
            es.tell(sphere(asked[-1]))
            if generation == stop:
                es.save(tmp_path / "state.npz", {"generation": generation})
                before = es.best()
                es = search(name, size, population, 99)
                assert es.restore(tmp_path / "state.npz") == {"generation": stop}
                np.testing.assert_array_equal(es.best(), before)
        return [*asked, es.best()]

    for found, expected in zip(run(7), run(None), strict=True):
        np.testing.assert_array_equal(found, expected)


@EVERY
def test_it_leaves_the_global_generator_alone(name):
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    es = search(name, 5, 6)
    for _ in range(6):
        es.tell(sphere(es.ask()))
    assert np.random.random() == expected


@EVERY
def test_it_starts_where_it_is_told(name):
    start = np.linspace(1, 2, 7)
    es = search(name, 7, 6, x0=start)
    np.testing.assert_array_equal(es.best(), start)
    assert np.abs(es.ask() - start).max() < 1  # ten first steps
    with pytest.raises(ValueError, match=r"x0: expected shape \(7,\), got \(3,\)"):
        search(name, 7, 6, x0=np.zeros(3))


@EVERY
def test_a_broken_checkpoint_is_named(name, tmp_path):
    (tmp_path / "state.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"state\.npz is not a checkpoint of this search"):
        search(name, 5, 6).restore(tmp_path / "state.npz")


@EVERY
def test_what_is_drawn_of_it_spreads_as_its_candidates_do_and_depends_on_the_generator_alone(name, tmp_path):
    es = search(name, 40, 12)
    for _ in range(20):
        es.tell(sphere(es.ask()))
    es.save(tmp_path / "state.npz", {})
    es.ask()
    drawn = np.stack([es.draw(np.random.default_rng(k)) for k in range(60)])
    assert np.sqrt(np.mean((drawn - es.best()) ** 2)) == pytest.approx(es.spread(), rel=0.3)
    assert len(np.unique(drawn, axis=0)) == 60
    again = search(name, 40, 12, 99)
    again.restore(tmp_path / "state.npz")
    again.ask()
    for k in (7, 3):  # in another order, and of a search that was restored
        np.testing.assert_array_equal(again.draw(np.random.default_rng(k)), drawn[k])


@EVERY
def test_agents_that_record_are_drawn_around_the_kept_one(name, tmp_path):
    config = tasks.replace(tasks.preset("carracing", "smoke"), optimizer=name, features="z", population=12)
    size = Controller.of(config).num_params
    run_dir.save(config, tmp_path)
    evolution = Evolution(tmp_path, config, size)
    for _ in range(15):
        scores = sphere(evolution.es.ask())
        evolution.es.tell(scores)
        evolution.log_generation(scores, np.full(12, 60), 1.0)
    evolution.log_evaluation(evolution.agents(), {"mean": np.array([1.0, 2.0])}, 1.0)
    evolution.save()
    explorers = Explorers(tmp_path, config)
    drawn = np.stack([explorers.agent(index).parameters for index in range(30)])
    kept = explorers.kept().parameters
    np.testing.assert_allclose(kept, evolution.es.best(), atol=1e-4)
    assert np.sqrt(np.mean((drawn - kept) ** 2)) == pytest.approx(evolution.es.spread(), rel=0.3)
    assert len(np.unique(drawn, axis=0)) == 30
    np.testing.assert_array_equal(Explorers(tmp_path, config).agent(7).parameters, drawn[7])


@EVERY
def test_a_checkpoint_of_another_size_or_search_is_refused(name, tmp_path):
    es = search(name, 5, 6)
    es.tell(sphere(es.ask()))
    es.save(tmp_path / "state.npz", {})
    for wrong in (search(name, 6, 6), *(search(other, 5, 6) for other in OPTIMIZERS if other != name)):
        with pytest.raises(UserError, match=r"state\.npz is not a checkpoint of this search: .*; delete it"):
            wrong.restore(tmp_path / "state.npz")


@EVERY
def test_a_score_that_is_not_finite_is_refused(name):
    es = search(name, 5, 6)
    es.ask()
    with pytest.raises(UserError, match="the score of candidate 2"):
        es.tell(np.array([1, 2, np.nan, 3, 4, 5]))


def test_centred_ranks_by_hand():
    np.testing.assert_allclose(centred_ranks(np.array([30.0, -1.0, 7.0])), [0.5, -0.5, 0])
    np.testing.assert_allclose(centred_ranks(np.array([2.0, 2.0, 9.0])), [-0.25, -0.25, 0.5])
    np.testing.assert_allclose(centred_ranks(np.full(4, 5.0)), 0)


def test_openai_es_mirrors_its_noise_and_steps_by_adam():
    es = OpenAIES(3, 0.1, 4, np.random.default_rng(0), rate=0.01)
    asked = es.ask()
    np.testing.assert_allclose(asked[:2], -asked[2:])
    scores = np.array([3.0, 1.0, 0.0, 2.0])  # ranks 1/2, -1/6, -1/2, 1/6
    gradient = (asked[0] / 0.1 - asked[1] / 0.1 / 3) / (4 * 0.1)
    es.tell(scores)
    # Adam's first step is its rate along the gradient's sign, whatever its size.
    np.testing.assert_allclose(es.best(), 0.01 * np.sign(gradient), rtol=1e-6)
    np.testing.assert_allclose(es.first, 0.1 * gradient)
    before = es.best()
    noise = es.ask()[:2] - before
    es.tell(scores)
    second = (noise[0] / 0.1 - noise[1] / 0.1 / 3) / (4 * 0.1)
    first = (0.9 * 0.1 * gradient + 0.1 * second) / (1 - 0.9**2)
    square = (0.999 * 0.001 * gradient**2 + 0.001 * second**2) / (1 - 0.999**2)
    np.testing.assert_allclose(es.best() - before, 0.01 * first / np.sqrt(square), rtol=1e-5)


def test_the_genetic_algorithm_keeps_its_best_and_breeds_from_the_elite():
    ga = GeneticAlgorithm(2, 0.001, 10, np.random.default_rng(1))
    assert ga.kept == 2
    ga.ask()
    ga.asked = np.arange(20.0).reshape(10, 2)
    scores = np.zeros(10)
    scores[[4, 7]] = 5, 9
    ga.tell(scores)
    np.testing.assert_array_equal(ga.best(), [14, 15])
    children = ga.ask()
    np.testing.assert_array_equal(children[0], [14, 15])
    parents = np.round(children)
    assert np.abs(children - parents).max() < 0.01
    assert {tuple(parent) for parent in parents} == {(14, 15), (8, 9)}


@pytest.mark.parametrize("name", ["cma", "cma-tpa"])
def test_its_curve_does_not_depend_on_the_threads_of_numpy(name):
    """867 parameters, as CarRacing's C: a matrix that is decomposed in threads where there are some."""
    code = (
        "import numpy as np, sys; from controller.optimizers import OPTIMIZERS\n"
        "es = OPTIMIZERS[sys.argv[1]](867, 0.1, 64, np.random.default_rng(0))\n"
        "for _ in range(5): es.tell(-np.square(es.ask() - 1).sum(axis=1))\n"
        "print(es.best().tobytes().hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, name],
            cwd=ROOT,
            env=os.environ | {"OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            check=True,
        ).stdout
        for threads in "12"
    }
    assert len(found) == 1 and len(found.pop()) > 867
