"""The runs that a run began from, with `--from` or `--after`, back to the first: their records tell of every round."""

import filecmp
import os
import re
from dataclasses import dataclass
from pathlib import Path

from common import config_file, run_dir, storage

FOLDER = "origins"  # of a packed run: copies of their records
RECORD = ("config.json", "metrics.jsonl", "results.json", "controller/history.jsonl", "commands/*.json")
VAE = "vae.weights.h5"


@dataclass(frozen=True)
class Origin:
    """A run from which another began; `searched`: whether its search for C counts too, since a later round went on from
    its agent."""

    path: Path
    metrics: list[dict]
    history: list[dict]
    searched: bool


def folders(run: Path, seen: tuple[Path, ...] = ()) -> list[Path]:
    """Where the records of a run's origins are, the oldest first: in its own origins/, if it is of a pack, or in the
    folders that its config.json names, as far as they still hold these runs."""
    packed = [path for path in (run / FOLDER).glob("*-*") if path.name.split("-")[0].isdecimal()]
    if packed:
        return sorted(packed, key=lambda path: int(path.name.split("-")[0]))
    for flag, way in (config_file.parse(run / "config.json")[1] or {}).items():
        base = Path(os.path.normpath(run / way))
        ours = run / run_dir.BEFORE / VAE if flag == "after" else run / VAE
        if (
            base.resolve() not in (*seen, run.resolve())
            and same_file(ours, base / VAE)
            and (base / "config.json").exists()
        ):
            return [*folders(base, (*seen, run.resolve())), base]
    return []


def same_file(one: Path, other: Path) -> bool:
    """Whether both are there, of the same content."""
    return one.exists() and other.exists() and filecmp.cmp(one, other, shallow=False)


def origins(run: Path) -> list[Origin]:
    """What a run's origins have logged, the oldest first. UserError naming a file that is broken."""
    found, anew = [], False
    paths = folders(run)
    for path, following in reversed(list(zip(paths, [*paths, run][1:], strict=True))):
        config, origin = config_file.parse(following / "config.json")
        anew = anew or config.restart == "yes"
        metrics, history = (storage.read_lines(path / name) for name in ("metrics.jsonl", "controller/history.jsonl"))
        found.insert(0, Origin(path, metrics, history, "after" in (origin or {}) and not anew))
    return found


def copy_records(run: Path, out: Path) -> None:
    """Copies the records of a run's origins into out/origins/."""
    for number, folder in enumerate(folders(run), 1):
        name = re.sub(r"^\d+-", "", folder.name) if folder.parent == run / FOLDER else folder.name
        there = out / FOLDER / f"{number}-{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}"
        for pattern in RECORD:
            for path in folder.glob(pattern):
                if not path.name.startswith(".") and path.resolve().is_relative_to(folder.resolve()):
                    storage.copy(path, there / path.relative_to(folder))
