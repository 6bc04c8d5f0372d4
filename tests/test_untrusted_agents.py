"""Checkpoints and agents that anybody may have written are read strictly, and refused in one line."""

import json

import cma
import numpy as np
import pytest
from small_run import edit_json, evolve, make_run, read_best, refused_search

from controller.evolution import Evolution
from controller.policy import Controller
from world_models.config import UserError


@pytest.mark.parametrize("damage", ["nan", "lacks", "header", "half"])
def test_a_damaged_checkpoint_is_refused_before_anything_is_written(damage, copied):
    run, config = copied
    path = run / "controller" / "checkpoint.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    if damage == "nan":
        arrays["mean"] = np.full_like(arrays["mean"], np.nan)
    elif damage == "lacks":
        del arrays["pc"]
    elif damage == "header":
        arrays["header"] = np.array("[1]")
    np.savez(path, **arrays)
    if damage == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused_search(run, config, r"checkpoint\.npz")


def crafted(path, change, save=np.savez) -> None:
    """Rewrites a search's checkpoint as one who knows its format: `change(arrays, header)`."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(str(arrays.pop("header")))
    change(arrays, header)
    save(path, header=np.array(json.dumps(header)), **arrays)


CRAFTED = {
    "text": lambda a, h: a.update(mean=np.full(a["mean"].shape, "x")),
    "complex": lambda a, h: a.update(mean=a["mean"] + 1j),
    "no generator": lambda a, h: h.update(random={}),
    "absurd generator": lambda a, h: h["random"]["state"].update(state=1 << 300),
    "NaN step size": lambda a, h: h["small"].update(sigma=float("nan")),
    "negative step size": lambda a, h: h["small"].update(sigma=-1.0),
    "a word for a step size": lambda a, h: h["small"].update(sigma="0.1"),
    "another dimension": lambda a, h: h["small"].update(N=9),
    "a method": lambda a, h: h["small"].update(ask=3),
    "a class": lambda a, h: h["small"].update({"sm.__class__": 4}),
    "options": lambda a, h: h["small"].update(opts={}),
    "an option": lambda a, h: h["small"].update({"opts.maxiter": 1}),
    "a class's attribute": lambda a, h: h["small"].update({"__class__.evil": 7}),
    "a part's class's attribute": lambda a, h: h["small"].update({"sm.__class__.evil": 7}),
    "an attribute that no search has": lambda a, h: h["small"].update(evil=7),
    "a list for a record": lambda a, h: h["extra"].update(made_from=[1]),
    "nowhere": lambda a, h: h["small"].update({"nowhere.deep": 3}),
    "no history": lambda a, h: h["extra"].pop("history"),
    "half a history": lambda a, h: h["extra"].update(history=h["extra"]["history"][1:]),
    "a line without a mean": lambda a, h: h["extra"]["history"][0].pop("mean"),
    "an infinite mean": lambda a, h: h["extra"]["history"][0].update(mean=float("inf")),
    "an agent of another size": lambda a, h: h["extra"]["best"].update(parameters=[0.5]),
    "another arithmetic": lambda a, h: h["extra"].update(dtype="float64"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_checkpoint_is_refused_before_anything_is_written(name, copied):
    run, config = copied
    crafted(run / "controller" / "checkpoint.npz", CRAFTED[name])
    refused_search(run, config, r"checkpoint\.npz")
    assert not hasattr(cma.CMAEvolutionStrategy, "evil")


BOMBS = {
    "a number": lambda a, h: a.update(sigma=np.zeros(20 << 20)),
    "a list of arrays": lambda a, h: a.update({"pop[]": np.zeros((20 << 10, 1 << 10))}),
    "an array of no search": lambda a, h: a.update(evil=np.zeros(20 << 20)),
    "the header": lambda a, h: h.update(padding="x" * (20 << 20)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_checkpoint_that_holds_more_than_a_search_is_refused_before_memory_is_taken(name, copied, monkeypatch):
    run, config = copied
    path = run / "controller" / "checkpoint.npz"
    before = path.stat().st_size
    crafted(path, BOMBS[name], save=np.savez_compressed)
    assert path.stat().st_size < before + (1 << 20)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("memory was taken"))
    refused_search(run, config, r"checkpoint\.npz is not a checkpoint of this search: it holds [\d,]+ bytes")


@pytest.mark.parametrize(
    "changes",
    [
        {"made_from": [1]},
        {"made_from": "vae"},
        {"generation": "3"},
        {"generation": True},
        {"score": None},
        {"score": "906"},
        {"score": 10**400},
        {"score": 1e300},
    ],
)
def test_an_agents_record_is_read_strictly(changes, copied):
    run, config = copied
    edit_json(run / "controller" / "best.json", **changes)
    with pytest.raises(UserError, match=r"best\.json"):
        read_best(run, config)


@pytest.mark.parametrize("name", ["generation", "score"])
def test_an_agent_without_generation_or_score_is_refused_before_its_test(name, copied):
    run, config = copied
    path = run / "controller" / "best.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in (name, "digest")}))
    with pytest.raises(UserError, match=rf"best\.json does not hold an agent: KeyError\('{name}'\)"):
        read_best(run, config)


@pytest.mark.parametrize(
    ("optimizer", "change"),
    [
        ("openai-es", lambda a, h: h.update(steps="x")),
        ("openai-es", lambda a, h: h.update(steps=-7)),
        ("openai-es", lambda a, h: a.update(second=-np.ones_like(a["second"]))),
        ("openai-es", lambda a, h: a.update(center=np.full_like(a["center"], np.inf))),
        ("ga", lambda a, h: a.update(parents=a["parents"].astype(int))),
        ("ga", lambda a, h: a.update(parents=a["parents"][0])),
        ("cma-diagonal", lambda a, h: h["small"].update(countiter="x")),
        ("cma-tpa", lambda a, h: h["small"].update({"adapt_sigma.cs": [1]})),
    ],
)
def test_crafted_checkpoints_of_the_other_searches_are_refused(optimizer, change, tmp_path):
    config = make_run(tmp_path, optimizer=optimizer)
    evolve(tmp_path, config)
    assert len(Evolution(tmp_path, config, Controller.of(config).num_params).history) == 3
    crafted(tmp_path / "controller" / "checkpoint.npz", change)
    refused_search(tmp_path, config, r"checkpoint\.npz")
