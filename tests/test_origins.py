"""The records of the runs that a run began from: found, packed, and told in the card."""

import dataclasses
import json

import pytest
from small_report import make_run, result

from tools import pack
from tools.page import source
from tools.reporting import origins
from tools.reporting.card import card
from tools.reporting.runs import read_run
from tools.reporting.tables import training_time
from world_models import results, tasks
from world_models.config import UserError
from world_models.runs import config_file, packed, run_dir, storage


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
    # What the first had found when the second began; the first has gone on since.
    for name, content in (("vae.weights.h5", "first's V"), ("controller/best.json", json.dumps({"generation": 1}))):
        storage.write_text(tmp_path / "second" / "before" / name, content)
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
    """V 40 s and 80 s, M 20 s and 40 s; C an hour of four in the first, two of four in the third; not the second's."""
    run = read_run(chain / "third", "third")
    row = results.read(chain / "third" / "results.json")[0] | {"generation": 2}
    assert training_time(run, row) == "V 2.0 min, M 1.0 min, C 3.0 h (evolution 8.0 h)"
    text = card(run, chain / "third")
    order = [text.index(f"runs/{name}`") for name in ("first", "second", "third")]
    assert order == sorted(order)
    assert "V 40 + 40 steps, M 40 + 40 steps, C 4 + 4 generations." in text
    lines = storage.read_lines(chain / "third" / "metrics.jsonl")
    own = [
        line | {"seconds": 600.0} if line["model"] == "rnn" else line for line in lines
    ]  # another M, from the first's
    storage.write_text(chain / "third" / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in own))
    assert "M 10.3 min" in training_time(read_run(chain / "third", "third"), row)
    anew = dataclasses.replace(run.config, restart="yes")
    storage.write_text(chain / "third" / "config.json", config_file.text(anew, {"from": "../second"}))
    assert training_time(read_run(chain / "third", "third"), row).endswith("C 2.0 h (evolution 4.0 h)")


def test_a_round_without_new_episodes_has_the_training_of_those_before(chain):
    still = dataclasses.replace(tasks.preset("carracing", "smoke"), episodes=0, round=3)
    storage.write_text(chain / "third" / "config.json", config_file.text(still, {"after": "../second"}))
    storage.write_text(chain / "third" / "before" / "vae.weights.h5", "second's V")
    storage.write_text(chain / "third" / "metrics.jsonl", "")
    row = results.read(chain / "third" / "results.json")[0]
    assert training_time(read_run(chain / "third", "third"), row).startswith("V 2.0 min, M 1.0 min, C")
    steps = {"first": 40, "second": 40}  # of make_run's curves
    with_rounds = tasks.preset("carracing", "smoke"), dataclasses.replace(still, episodes=6, round=2)
    for name, config, origin in zip(steps, with_rounds, ({}, {"after": "../first"}), strict=True):
        storage.write_text(chain / name / "config.json", config_file.text(config, origin))
    assert source.rnn_steps(chain / "third", still) == (sum(steps.values()), 2)


def test_a_pack_holds_the_records_of_all_rounds_and_so_does_a_pack_of_its_copy(chain):
    out, again = chain / "out", chain / "again"
    pack.pack(chain / "third", out, checkpoint=False)
    parts = {"1-first", "2-second"}
    assert {path.name for path in (out / "origins").iterdir()} == parts
    assert {path.name for path in (out / "origins" / "2-second").iterdir()} == {
        *("config.json", "metrics.jsonl", "results.json", "controller", "commands")
    }
    assert json.loads((out / "origins" / "1-first" / "controller" / "best.json").read_text()) == {"generation": 1}
    assert not list((out / "origins").rglob("*.npz")) and not list((out / "origins").rglob("*.h5"))
    pack.pack(out, again, checkpoint=False)
    assert {path.name for path in (again / "origins").iterdir()} == parts
    assert (again / "README.md").read_text() == (out / "README.md").read_text()
    pack.pack(chain / "third", out, checkpoint=False)  # nothing in it is a stranger's
    storage.write_text(out / "origins" / "1-first" / "thesis.tex", "precious")
    with pytest.raises(UserError, match=r"thesis\.tex, which is not of a packed run"):
        pack.pack(chain / "third", out, checkpoint=False)


def test_a_pack_does_not_say_where_its_runs_lay(chain):
    for name in ("first", "third"):
        path = chain / name / "commands" / "20260101T000000-train_controller.json"
        line = json.loads(path.read_text())
        storage.write_text(path, json.dumps(line | {"command": f"train_controller.py --run {chain.resolve()}/{name}"}))
    pack.pack(chain / "third", chain / "out", checkpoint=False)
    texts = [path.read_text() for path in (chain / "out").rglob("*") if path.suffix in (".json", ".jsonl", ".md")]
    assert not any(str(chain.resolve()) in text for text in texts)
    assert f"`python train_controller.py --run {chain.name}/third`" in (chain / "out" / "README.md").read_text()


def test_a_link_in_a_stranger_s_origins_is_not_followed(chain):
    pack.pack(chain / "third", chain / "out", checkpoint=False)
    storage.write_text(chain / "private" / "metrics.jsonl", "secret")
    path = chain / "out" / "origins" / "1-first"
    (path / "metrics.jsonl").unlink()
    (path / "metrics.jsonl").symlink_to(chain / "private" / "metrics.jsonl")
    with pytest.raises(UserError, match="is a link out of its run"):
        pack.pack(chain / "out", chain / "again", checkpoint=False)
    path.rename(chain / "out" / "away")
    path.symlink_to(chain / "out" / "away")
    assert names(chain / "out") == ["2-second"]


@pytest.mark.parametrize("way", ["\0", "\ud800", "loop", "x" * 5000, "/"])
def test_a_way_that_is_none_leads_nowhere(way, chain):
    (chain / "third" / "loop").symlink_to("loop")
    config = tasks.preset("carracing", "smoke")
    storage.write_text(chain / "third" / "config.json", config_file.text(config, {"from": way}))
    assert names(chain / "third") == []


def test_a_packed_run_names_no_folder_of_the_reader(chain):
    packed.mark(chain / "third", None)
    assert names(chain / "third") == []


def test_a_broken_neighbour_is_left_out_with_a_note(chain, capsys):
    storage.write_text(chain / "first" / "metrics.jsonl", "{}")
    assert [origin.path.name for origin in origins.origins(chain / "third")] == ["second"]
    assert "first/metrics.jsonl, line 1, is broken" in capsys.readouterr().err


def test_with_another_v_the_round_before_counts_alone(chain):
    third = chain / "third"
    storage.write_text(third / "vae.weights.h5", "third's V")
    assert names(third) == []
    storage.write_text(third / "before" / "vae.weights.h5", "first's V")
    assert names(third) == ["first"]
