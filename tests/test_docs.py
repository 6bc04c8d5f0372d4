"""README, docs/ and lab/: their links, commands and names exist, and the numbers are those of the files."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from tools import report
from tools.release import PARTS
from tools.reporting.runs import read_runs
from world_models import config as configs
from world_models import published
from world_models.runs import files

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
SCRIPT = re.compile(r"\bpython +(?!-)(\S+\.py)")
MODULE = re.compile(r"\bpython +-m +(\w+(?:\.\w+)*)")
# Flags of Slurm, Open MPI, Docker and TensorBoard.
OTHERS = {"--bind-to", "--cpus", "--cpus-per-task", "--gpus", "--hostfile", "--job-name", "--logdir", "--mem-per-cpu"}
OTHERS |= {"--memory", "--mpi", "--nodes", "--ntasks", "--ntasks-per-node", "--shm-size", "--signal", "--time"}
PLUS_MINUS = re.compile(r"\d+(?:\.\d+)? ± \d+(?:\.\d+)?")
CARDS = sorted((ROOT / "pretrained").rglob("*.md"))
NOTES = sorted((ROOT / "lab").glob("*.md"))


@pytest.mark.parametrize("page", [*PAGES, *CARDS, *NOTES], ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_exist(page):
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_flags_and_files_exist(page):
    """Also those in commands. The flags of other programs are named in OTHERS."""
    text = page.read_text()
    modules = [ROOT / name.replace(".", "/") for name in MODULE.findall(text) if name != "pytest"]
    assert all(path.with_name(f"{path.name}.py").exists() or (path / "__main__.py").exists() for path in modules)
    assert all((ROOT / name).exists() for name in SCRIPT.findall(text))
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"(?:^|`)make (\w+)", text, re.M)) <= set(targets)
    code = "".join(path.read_text() for pattern in ("*.py", "[!.]*/**/*.py") for path in ROOT.glob(pattern))
    flags = {configs.flag(name) for name in (*(item.name for item in dataclasses.fields(configs.Config)), *PARTS)}
    flags |= set(re.findall(r'"(--[a-z-]+)"', code)) | OTHERS
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= flags
    named = re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|wat|js))`", text)
    assert not [name for name in named if not any(ROOT.glob(name)) and not any(ROOT.glob(f"tools/**/{name}"))]
    assert not re.findall(r"(?<![\w.])/(?:work|home|root|tmp)/", text), "pages name no folder of one machine"


def test_the_code_map_names_what_exists():
    """Each `file.py` is followed by the names that it defines."""
    (table,) = re.findall(r"^## Code map\n(.*?)^## ", (ROOT / "README.md").read_text(), re.S | re.M)
    path, named = None, 0
    for word in re.findall(r"`([\w/.]+)`", table):
        if "." in word:
            path = ROOT / word
            assert path.exists(), word
        elif path:
            assert re.search(rf"^ *(?:(?:def|class) )?{word}\b", path.read_text(), re.M), f"{path.name}: {word}"
            named += 1
    assert named > 10


def test_every_page_is_linked_from_the_readme():
    links = LINK.findall((ROOT / "README.md").read_text())
    assert {str(page.relative_to(ROOT)) for page in PAGES[1:]} | {"lab/README.md"} <= set(links)


def test_every_note_is_in_the_index_of_the_lab():
    links = LINK.findall((ROOT / "lab" / "README.md").read_text(encoding="utf-8"))
    assert {note.name for note in NOTES} - {"README.md"} == {link for link in links if "/" not in link}


@pytest.mark.parametrize("name", ["doom", "carracing", "second-round"])
def test_the_lab_s_tables_of_searches_are_of_the_numbers_next_to_them(name):
    """At four quarters of the budget: mean and standard error over seeds of the score, interpolated over episodes."""
    runs = json.loads((ROOT / "lab" / "search" / f"{name}.json").read_text(encoding="utf-8"))
    page = next(note for note in NOTES if f"(search/{name}.json)" in note.read_text(encoding="utf-8"))
    lines = page.read_text(encoding="utf-8").splitlines()
    head = next(line for line in lines if line.startswith("| setting |"))
    marks = [int(mark.replace(",", "")) for mark in re.findall(r"([\d,]+) episodes \|", head)]
    for setting in {key.partition("/")[0] for key in runs}:
        row = next(line for line in lines if line.startswith(f"| {setting} | "))
        for mark, cell in zip(marks, row.split(" | ")[3:], strict=False):
            if not cell.strip():
                continue  # the mean had not been scored so early
            scores = []
            for key in (key for key in runs if key.startswith(f"{setting}/")):
                scored = [(n, x) for n, x in zip(runs[key]["spent"], runs[key]["score"], strict=True) if x is not None]
                scores.append(float(np.interp(mark, *zip(*scored, strict=True))))
            error = f" ± {np.std(scores, ddof=1) / len(scores) ** 0.5:.0f}" if len(scores) > 1 else ""
            assert cell == f"{np.mean(scores):.0f}{error}", (setting, mark)


def test_the_readmes_scores_are_those_of_the_results():
    """The score of a row, with its standard error and number of episodes, is that of a row of the results."""
    (headline,) = re.findall(r"^## Results\n(.*?)^## ", (ROOT / "README.md").read_text(), re.S | re.M)
    measured = (ROOT / "lab" / "rows.md").read_text().splitlines()
    lines = re.findall(r"^\|.*\|$", headline, re.M)
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert len(rows) == 3 and head[1] == "ours, 1,000 episodes"
    for _, ours, paper, _ in rows:
        fitting = [line for line in measured if f"| {ours} |" in line and "| 1,000 / " in line.replace("1000", "1,000")]
        assert fitting, ours
        assert paper == "–" or any(f"| {paper} |" in line for line in fitting), paper


def test_the_tables_are_of_the_shipped_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "lab" / "rows.md").read_text() + (ROOT / "lab" / "published.md").read_text()
    shipped = read_runs([Path("pretrained", name) for name in ("carracing", "carracing-v3", "doom")])
    for name, write in report.SECTIONS.items():
        assert f"<!-- {name} -->\n{write(shipped)}<!-- end of {name} -->" in text


@pytest.mark.parametrize("name", ["film", "dream"])
def test_films_are_small(name):
    film = ROOT / "docs" / f"{name}.gif"
    assert film.read_bytes()[:6] == b"GIF89a" and film.stat().st_size < 3_500_000


def scored(content) -> set[tuple[float, float]]:
    """All (mean or score, standard deviation) in a JSON file's content."""
    if isinstance(content, list):
        return set().union(*map(scored, content))
    if not isinstance(content, dict):
        return set()
    pair = (content.get("mean", content.get("score")), content.get("std"))
    return set().union(*map(scored, content.values())) | ({pair} if None not in pair else set())


@pytest.mark.parametrize("notes", sorted(ROOT.glob("pretrained/*/notes.md")), ids=lambda path: path.parent.name)
def test_notes_of_a_shipped_run_agree_with_its_files(notes):
    """Or, where they compare, with another's, or with the published scores."""
    records = [path for name in ("best.json", "results.json") for path in (ROOT / "pretrained").rglob(name)]
    contents = [json.loads(path.read_text()) for path in [*records, published.FILE]]
    contents += [files.read_lines(path) for path in (ROOT / "pretrained").rglob("history.jsonl")]
    pairs = set().union(*map(scored, contents))
    for text in PLUS_MINUS.findall(notes.read_text()):
        digits = [len(number.partition(".")[2]) for number in text.split(" ± ")]
        assert text in {f"{mean:.{digits[0]}f} ± {std:.{digits[1]}f}" for mean, std in pairs}, text
    card = (notes.parent / "README.md").read_text(encoding="utf-8")
    assert notes.read_text(encoding="utf-8") in card
    for picture in notes.parent.glob("pictures/*.png"):
        assert f"(pictures/{picture.name})" in card, picture
