"""A run folder, as stages and models use it: settings, files with provenance, and the lock.

with open_run(path, given, comm) as run:  # of begin.py
    if run.is_current("rnn.weights.h5"):
        return
    with run.write("rnn.weights.h5") as tmp:
        ...
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from world_models.config import Config, UserError, fields_of
from world_models.runs import artifacts, config_file, files
from world_models.runs.artifacts import ARTIFACTS, Artifact
from world_models.runs.lock import Lock
from world_models.runs.manifest import Manifest, digest_of, sha256


class Run:
    """A run folder: its path, its settings, and its lock if this process holds it."""

    def __init__(self, path: str | Path, config: Config | None = None):
        """Opens a folder to read it. UserError if it holds no run."""
        self.path = Path(path)
        self.config = config_file.load(self.path) if config is None else config
        self.lock: Lock | None = None

    def __getstate__(self) -> dict:
        return {"path": self.path, "config": self.config, "lock": None}

    def __truediv__(self, name: str | Path) -> Path:
        return self.path / name

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest(self.path)

    def reread(self) -> None:
        """Reads the manifest again, to which another process has written."""
        vars(self).pop("manifest", None)

    @property
    def before(self) -> "Run":
        """The round before: its settings, V, M and kept agents. UserError if there is none."""
        return Run(self.path / artifacts.BEFORE)

    @property
    def earlier(self) -> list["Run"]:
        """The rounds before, the oldest first, with their records."""
        before = self.path / artifacts.BEFORE
        return [*Run(before).earlier, Run(before)] if (before / "config.json").exists() else []

    @property
    def agents(self) -> list["Run"]:
        """The runs of further agents on this run's V and M (`train_controller.py --vary`), by name."""
        return [Run(found.parent) for found in sorted(self.path.glob(f"{artifacts.AGENTS}/*/config.json"))]

    # Reading

    def digest(self, name: str) -> str | None:
        """The digest of a file's content, or of a folder's recorded episodes; None if it is missing."""
        row, path = self.manifest.rows.get(name, {}), self.path / name
        if "episodes" in row and path.exists():
            return digest_of(row["episodes"])
        return sha256(path) if path.is_file() else None

    def is_current(self, name: str) -> bool:
        """Whether a file exists and has a row in the manifest. A file without a row is made again.

        UserError if it was modified, or made from something else than what exists now.
        """
        path = self.path / name
        if not path.exists() or name not in self.manifest.rows:
            return False
        self._check(ARTIFACTS[name])
        return True

    def need(self, name: str) -> Path:
        """The path of a file that must exist, checked. UserError that says which command makes it if it is missing, was
        modified, or was made from something else than what exists now."""
        artifact = ARTIFACTS[name]
        path = self.path / name
        fault = "" if path.exists() else "is missing"
        if not fault and artifact.recorded and name not in self.manifest.rows:
            fault = f"has no row in {self.manifest.path}, so its origin is unknown"
        if fault:
            raise UserError(f"{path} {fault}; make it with: {artifact.command(self.path)}")
        if artifact.recorded:
            self._check(artifact)
        return path

    def _check(self, artifact: Artifact) -> None:
        path, row = self.path / artifact.name, self.manifest.rows[artifact.name]
        remedy = f"delete it, and make it with: {artifact.command(self.path)}"
        try:
            if "episodes" not in row:
                row = self.manifest.row_of(artifact.name, path) or row
        except UserError as error:
            raise UserError(f"{error}; {remedy}") from None
        for name, digest in row["made_from"].items():
            if self.digest(name) not in (None, digest):
                what = ARTIFACTS[name].what
                raise UserError(f"{path} was made from another {what} than {self.path / name}; {remedy}")

    # Writing

    @contextmanager
    def write(self, name: str, **more: Any) -> Iterator[Path]:
        """Context manager that yields a temporary path. If the block raises nothing the file takes its place, with a
        row in the manifest, which is written first: whenever the process is killed, the file that remains has a row.
        `more` are further values of the row, such as seconds that earlier commands have spent."""
        artifact = ARTIFACTS[name]
        with files.atomic_write(self.path / name) as tmp:
            yield tmp
            if artifact.recorded:
                digests = {one: digest for one in artifact.needs if (digest := self.digest(one)) is not None}
                self.manifest.put(name, {"sha256": sha256(tmp)}, digests, self.settings(name), **more)

    def write_text(self, name: str, text: str) -> None:
        with self.write(name) as tmp:
            tmp.write_text(text, encoding="utf-8")

    def adopt(self, name: str, source: "Run") -> None:
        """Copies another run's file, checked, with the row that says where it comes from; nothing if it has none."""
        if not source.is_current(name):
            return
        row = {key: value for key, value in source.manifest.rows[name].items() if key != "replaced"}
        row["made_from"] = {one: digest for one, digest in row["made_from"].items() if self.digest(one) == digest}
        files.copy(source.path / name, self.path / name)
        self.manifest.rows[name] = row
        self.manifest.save()

    def record_episodes(self, episodes: dict[str, str], seconds: float = 0.0) -> None:
        """Adds the row of the recordings: the digest of each episode, by its file's name."""
        self.manifest.put("record", {"episodes": episodes}, {}, self.settings("record"), seconds)

    def settings(self, name: str) -> dict:
        """The settings that a file depends on itself, without those of what it is made from."""
        groups = ARTIFACTS[name].settings
        names = {*groups, *fields_of(*groups)}
        return {one: value for one, value in vars(self.config).items() if one in names}

    def seconds(self, name: str) -> float:
        """The seconds that commands have spent on a file, by its row; 0.0 without a row."""
        return float(self.manifest.rows.get(name, {}).get("seconds", 0.0))

    def save_config(self, config: Config) -> None:
        """Writes settings that have grown, as the number of generations may."""
        self.config = config
        self.write_text("config.json", config_file.text(config))
