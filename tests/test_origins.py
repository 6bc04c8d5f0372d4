"""The records of the runs that a run began from: found, packed, and told in the card."""

import dataclasses
import json

import pytest
from small_report import make_run, result

import tasks
from common import config_file, results, run_dir, storage
from tools import pack
from tools.reporting import origins
from tools.reporting.card import card
from tools.reporting.runs import read_run
from tools.reporting.tables import training_time


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """Three runs: first, its next round second, and third from the second, with the same V."""
    monkeypatch.setattr(run_dir, "need_models", lambda _: None)
    monkeypatch.setattr(pack, "read_best", lambda *_: None)
    config = tasks.preset("carracing", "smoke")
    for name, origin in (("first", {}), ("second", {"after": "../first"}), ("third", {"from": "../second"})):
        run = make_run(tmp_path / name, config, [result(config, [700.0, 800.0])])
        storage.write_text(run / "config.json", config_file.text(config, origin))
        storage.write_text(run / "vae.weights.h5", "first's V" if name == "first" else "second's V")
        storage.write_text(run / "rnn.weights.h5", "M")
        line = {"command": f"train_controller.py --run runs/{name}", "ranks": 1, "hardware": "a processor"}
        line |= {"started": "2026-01-01 00:00 UTC", "seconds": 90.0, "ended": True}
        storage.write_text(run / "commands" / "20260101T000000-train_controller.json", json.dumps(line))
        storage.write_text(run / "record" / "000000.npz", "an episode")
    storage.write_text(tmp_path / "second" / "before" / "vae.weights.h5", "first's V")
    # The second trained V and M for itself; the third only has their curves.
    lines = storage.read_lines(tmp_path / "second" / "metrics.jsonl")
    changed = "".join(json.dumps(line | {"seconds": 2.0 * line["seconds"]}) + "\n" for line in lines)
    for name in ("second", "third"):
        storage.write_text(tmp_path / name / "metrics.jsonl", changed)
    return tmp_path


def names(run) -> list[str]:
    return [path.name for path in origins.folders(run)]


def test_a_run_s_origins_are_those_that_still_hold_what_it_began_with(chain):
    assert names(chain / "third") == ["first", "second"] and names(chain / "first") == []
    storage.write_text(chain / "first" / "vae.weights.h5", "another V")
    assert names(chain / "third") == ["second"]
    storage.write_text(chain / "second" / "vae.weights.h5", "another V")
    assert names(chain / "third") == []


@pytest.mark.parametrize("origin", [{"from": "."}, {"from": "../third/../third"}, {"from": "../second"}])
def test_runs_that_name_each_other_end(origin, chain):
    storage.write_text(
        chain / "second" / "config.json", config_file.text(tasks.preset("carracing", "smoke"), {"from": "../third"})
    )
    storage.write_text(chain / "third" / "config.json", config_file.text(tasks.preset("carracing", "smoke"), origin))
    assert names(chain / "third") == (["second"] if origin == {"from": "../second"} else [])


def test_time_and_commands_are_of_all_rounds(chain):
    """V 40 s and 80 s, M 20 s and 40 s; C four hours in the first and in the third, while the second's was not kept."""
    run = read_run(chain / "third", "third")
    row = results.read(chain / "third" / "results.json")[0] | {"generation": 2}
    assert training_time(run, row) == "V 2.0 min, M 1.0 min, C 6.0 h (evolution 8.0 h)"
    text = card(run, chain / "third")
    order = [text.index(f"runs/{name}`") for name in ("first", "second", "third")]
    assert order == sorted(order)
    assert "V 40 + 40 steps, M 40 + 40 steps, C 4 + 4 generations." in text
    anew = dataclasses.replace(run.config, restart="yes")
    storage.write_text(chain / "third" / "config.json", config_file.text(anew, {"from": "../second"}))
    assert training_time(read_run(chain / "third", "third"), row).endswith("C 2.0 h (evolution 4.0 h)")


def test_a_pack_holds_the_records_of_all_rounds_and_so_does_a_pack_of_its_copy(chain):
    out, again = chain / "out", chain / "again"
    pack.pack(chain / "third", out, checkpoint=False)
    parts = {"1-first", "2-second"}
    assert {path.name for path in (out / "origins").iterdir()} == parts
    assert {path.name for path in (out / "origins" / "2-second").iterdir()} == {
        *("config.json", "metrics.jsonl", "results.json", "controller", "commands")
    }
    assert not list((out / "origins").rglob("*.npz")) and not list((out / "origins").rglob("*.h5"))
    pack.pack(out, again, checkpoint=False)
    assert {path.name for path in (again / "origins").iterdir()} == parts
    assert (again / "README.md").read_text() == (out / "README.md").read_text()
    pack.pack(chain / "third", out, checkpoint=False)  # nothing in it is a stranger's
    storage.write_text(out / "origins" / "1-first" / "thesis.tex", "precious")
    with pytest.raises(pack.configs.UserError, match=r"thesis\.tex, which is not of a packed run"):
        pack.pack(chain / "third", out, checkpoint=False)
