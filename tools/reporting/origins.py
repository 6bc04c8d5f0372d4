"""The runs that a run began from, with `--from` or `--after`, back to the first: their records tell of every round."""

import filecmp
import os
import re
from dataclasses import dataclass
from pathlib import Path

from world_models.config import UserError
from world_models.progress import note
from world_models.runs import config_file, integrity, packed, run_dir, storage

FOLDER = "origins"  # of a packed run: copies of their records
SEARCH = ("controller/history.jsonl", "controller/best.json")
RECORD = ("config.json", "metrics.jsonl", "results.json", *SEARCH, "commands/*.json")
COMMAND = re.compile(r"\d{8}T\d{6}-[\w.-]+\.json")  # as runs/command_log.py names them
VAE = "vae.weights.h5"


@dataclass(frozen=True)
class Origin:
    """A run from which another began, and what of it counts for that one: the curves of V and M, and the search for C
    up to the `kept` generation, if training and search went on from there."""

    path: Path
    metrics: list[dict]
    history: list[dict]
    kept: int


def folders(run: Path) -> list[Path]:
    """Where the records of a run's origins are, the oldest first: in its own origins/, if it is of a pack, or in the
    folders that its config.json names, as far as they still hold these runs."""
    found: list[Path] = []
    visited = {run.resolve()}
    while True:
        ours = run / FOLDER
        copies = [] if ours.is_symlink() else [path for path in ours.glob("*-*") if number(path) is not None]
        if copies or packed.is_packed(run):
            return sorted(copies, key=number) + found
        base, shown = began_from(run)
        if base is None or base.resolve() in visited:
            return found
        visited.add(base.resolve())
        found = [base, *found] if shown else found
        run = base


def number(path: Path) -> int | None:
    """Which copy of an origin's record a folder of origins/ is; None if it is none."""
    first = path.name.split("-")[0]
    there = first.isascii() and first.isdigit() and not path.is_symlink() and (path / "config.json").is_file()
    return int(first) if there else None


def began_from(run: Path) -> tuple[Path | None, bool]:
    """The folder of the run from which `run` began, and whether its V is used; (None, False) if it is not there."""
    try:
        for flag, way in (config_file.parse(run / "config.json")[1] or {}).items():
            base = Path(os.path.normpath(run.resolve() / way))
            before = run / run_dir.BEFORE / VAE
            if not (base / "config.json").is_file():
                break
            if same_file(before if flag == "after" else run / VAE, base / VAE):
                return base, True
            # With other settings of V --from gives no V, but the round before, which the base has gone on from.
            if flag == "from" and same_file(before, base / run_dir.BEFORE / VAE):
                return base, False
    except (OSError, ValueError, RuntimeError):  # a way that is no path, or leads in a circle
        pass
    return None, False


def same_file(one: Path, other: Path) -> bool:
    """Whether both are there, of the same content."""
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def origins(run: Path) -> list[Origin]:
    """What counts of a run's origins, the oldest first. It ends with a note at one whose files are broken."""
    paths, found = folders(run), []
    counts = config_file.parse(run / "config.json")[0].restart == "no"  # of the search that C came of
    for path, following in reversed(list(zip(paths, [*paths, run][1:], strict=True))):
        try:
            config = run_dir.load(path)
            after = "after" in (config_file.parse(following / "config.json")[1] or {})
            metrics = storage.read_lines(path / "metrics.jsonl")
            history, kept = search(path, following)
        except UserError as error:
            note(f"what {run} began from is left out: {error}")
            break
        found.insert(0, Origin(path, metrics if after else [], history if after and counts else [], kept))
        if after:
            counts = counts and config.restart == "no"
    return found


def search(path: Path, following: Path) -> tuple[list[dict], int]:
    """An origin's history and the generation of its kept agent, when the run `following` began."""
    at = {name: following / run_dir.BEFORE / name for name in SEARCH}
    history, best = (where if where.exists() else path / name for name, where in at.items())
    kept = integrity.read_json(best).get("generation") if best.exists() else None
    return storage.read_lines(history), kept if integrity.is_count(kept) else 0


def copy_records(run: Path, out: Path) -> None:
    """Copies the records of a run's origins into out/origins/. UserError naming a link out of their folders."""
    paths = folders(run)
    for place, (folder, following) in enumerate(zip(paths, [*paths, run][1:], strict=True), 1):
        config_file.parse(folder / "config.json")
        name = re.sub(r"^\d+-", "", folder.name) if folder.parent.name == FOLDER else folder.name
        there = out / FOLDER / f"{place}-{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}"
        files = {path.relative_to(folder): path for pattern in RECORD for path in folder.glob(pattern)}
        before = following / run_dir.BEFORE  # the search as it was then
        files |= {Path(name): before / name for name in SEARCH if (before / name).exists()}
        for part, path in files.items():
            if part.parent.name == "commands" and not COMMAND.fullmatch(part.name):
                continue
            if not path.resolve().is_relative_to((folder if path.is_relative_to(folder) else before).resolve()):
                raise UserError(f"{path} is a link out of its run and is not packed; replace it by a copy")
            copy_shared(path, there / part, folder)


def copy_shared(path: Path, to: Path, run: Path) -> None:
    """Copies a file of a run into a pack, which others will read: a logged command that names the run by where it lies
    on this machine names it by the last two parts of that."""
    storage.copy(path, to)
    here = run.resolve()
    if COMMAND.fullmatch(path.name) and str(here) in (text := to.read_text()):
        storage.write_text(to, text.replace(str(here), str(Path(*here.parts[-2:]))))
