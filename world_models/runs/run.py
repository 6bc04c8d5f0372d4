"""A run folder, as stages and models use it: settings, files with provenance, and the lock.

with Run.open(path, given, comm=comm) as run:
    if run.is_current("rnn.weights.h5"):
        return
    with run.write("rnn.weights.h5") as tmp:
        ...
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from world_models.config import Config, UserError, fields_of
from world_models.runs import artifacts, config_file, files
from world_models.runs.artifacts import ARTIFACTS, Artifact
from world_models.runs.lock import Lock
from world_models.runs.manifest import Manifest, digest_of, sha256

if TYPE_CHECKING:
    from world_models.mpi import Comm


class Run:
    """A run folder.

    Attributes:
        path: the folder.
        config: its settings.
        lock: the lock, if this process holds it.
    """

    def __init__(self, path: str | Path, config: Config | None = None):
        """Opens a folder to read it. UserError if it holds no run."""
        self.path = Path(path)
        self.config = config_file.load(self.path) if config is None else config
        self.lock: Lock | None = None
        self._manifest: Manifest | None = None

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        given: dict | None = None,
        base: Path | None = None,
        after: Path | None = None,
        comm: "Comm | None" = None,
        pack: bool = False,
    ) -> Iterator["Run"]:
        """Context manager: the run, locked. A new run is made: of `given` settings, and of what it can use of the run
        `base`, or as the next round of the run `after`.

        With a communicator all ranks call it: rank 0 holds the lock and makes the run. UserError on every rank if
        another command holds the lock, if `given` contradicts the settings of the run, or if the run is a pack, unless
        `pack` allows it.
        """
        from world_models import mpi  # here, since mpi's errors need the command line, which reads run folders
        from world_models.runs.begin import begin

        lock, root = Lock(path), comm is None or comm.rank == 0

        def start() -> "Run":
            lock.take()
            return begin(path, given or {}, base, after, pack)

        try:
            run = start() if comm is None else mpi.on_root(comm, start)
            run.lock = lock if root else None
            yield run
        finally:
            lock.release()

    def __getstate__(self) -> dict:
        return {"path": self.path, "config": self.config, "lock": None, "_manifest": None}

    def __truediv__(self, name: str | Path) -> Path:
        return self.path / name

    def __str__(self) -> str:
        return str(self.path)

    @property
    def manifest(self) -> Manifest:
        if self._manifest is None:
            self._manifest = Manifest(self.path)
        return self._manifest

    def reread(self) -> None:
        """Reads the manifest again, to which another process has written."""
        self._manifest = None

    @property
    def before(self) -> "Run":
        """The round before: its settings, V, M and kept agents. UserError if there is none."""
        return Run(self.path / artifacts.BEFORE)

    @property
    def earlier(self) -> list["Run"]:
        """The rounds before, the oldest first, with their records."""
        found: list[Run] = []
        path = self.path / artifacts.BEFORE
        while (path / "config.json").exists():
            found.insert(0, Run(path))
            path = path / artifacts.BEFORE
        return found

    @property
    def agents(self) -> list["Run"]:
        """The runs of further agents on this run's V and M (`train_controller.py --vary`), by name."""
        return [Run(found.parent) for found in sorted(self.path.glob(f"{artifacts.AGENTS}/*/config.json"))]

    # Reading

    def digest(self, name: str) -> str | None:
        """The digest of a file's content, or of a folder's recorded episodes; None if it is missing."""
        row = self.manifest.rows.get(name, {})
        if "episodes" in row:
            return digest_of(row["episodes"]) if (self.path / name).exists() else None
        path = self.path / name
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
        if not path.exists():
            raise UserError(f"{path} is missing; make it with: {artifact.command(self.path)}")
        if not path.is_file() and name not in ("record", "held_out"):
            raise UserError(f"{path}: expected a regular file; delete it")
        if artifact.recorded:
            if name not in self.manifest.rows:
                raise UserError(
                    f"{path} has no row in {self.manifest.path}, so its origin is unknown; make it with: "
                    f"{artifact.command(self.path)}"
                )
            self._check(artifact)
        return path

    def _check(self, artifact: Artifact) -> None:
        path = self.path / artifact.name
        remedy = f"delete it, and make it with: {artifact.command(self.path)}"
        try:
            row = self.manifest.rows[artifact.name]
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

        Args:
            more: further values of the row, such as seconds that earlier commands have spent.
        """
        artifact = ARTIFACTS[name]
        with files.atomic_write(self.path / name) as tmp:
            yield tmp
            if artifact.recorded:
                self.manifest.put(name, {"sha256": sha256(tmp)}, self.sources(artifact), self.settings(name), **more)

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

    def sources(self, artifact: Artifact) -> dict[str, str]:
        """The digests of what a file is made from, as far as that exists."""
        found = {name: self.digest(name) for name in artifact.needs}
        return {name: digest for name, digest in found.items() if digest is not None}

    def settings(self, name: str) -> dict:
        """The settings that a file depends on, beside those that what it is made from depends on."""
        groups = ARTIFACTS[name].settings
        names = [field.name for field in dataclasses.fields(Config) if field.name in (*groups, *fields_of(*groups))]
        return {one: getattr(self.config, one) for one in names}

    def seconds(self, name: str) -> float:
        """The seconds that commands have spent on a file, by its row; 0.0 without a row."""
        return float(self.manifest.rows.get(name, {}).get("seconds", 0.0))

    def save_config(self, config: Config) -> None:
        """Writes settings that have grown, as the number of generations may."""
        self.config = config
        self.write_text("config.json", config_file.text(config))
