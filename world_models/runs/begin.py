"""How a run begins: from settings alone, from another run's files (--from), or as the next round (--after)."""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from world_models import mpi, tasks
from world_models.config import Config, UserError, fields_of, flag
from world_models.progress import note
from world_models.runs import artifacts, config_file, episodes, files
from world_models.runs.artifacts import BEFORE, RECORDS, M, V
from world_models.runs.lock import Lock
from world_models.runs.run import Run

SEARCH_SETTINGS = "optimizer population rollouts seed_sharing tracks generations sigma average eval_every eval_episodes"
KEPT = (V, M, "initial_z.npz")  # what another run may take of a run, in addition to its recordings


@contextmanager
def open_run(path: Path, given: dict, comm: mpi.Comm | None = None, **options: Any) -> Iterator[Run]:
    """Context manager: the run, locked, and made if it is new. Arguments as in `begin`.

    With a communicator all ranks call it: rank 0 holds the lock and makes the run. UserError on every rank if another
    command holds the lock, or as in `begin`.
    """
    lock = Lock(path)
    start = partial(begin, path, given, lock=lock, **options)
    try:
        run = start() if comm is None else mpi.on_root(comm, start)
        run.lock = lock
        yield run
    finally:
        lock.release()


def begin(
    path: Path,
    given: dict,
    base: Path | None = None,
    after: Path | None = None,
    pack: bool = False,
    lock: Lock | None = None,
) -> Run:
    """The run in a folder.

    A new one is made: of `given` settings, and of what it can use of the run `base`, or as the next round of the run
    `after`. They are checked before the `lock` is taken, which makes the folder. UserError if `given` contradicts the
    settings of a run that exists, or if that is a pack, unless `pack` allows it.
    """
    if "task" in given:
        tasks.get(tasks.named(given["task"]))  # an unknown task is reported before what the run holds
    config = None if (path / "config.json").exists() else resolve(path, given, base, after)
    if lock is not None:
        lock.take()
    if config is None or (path / "config.json").exists():
        return existing(path, given, base, after, pack)
    run = Run(path, config)
    run.manifest.rows.clear()
    remove_partial(path)
    if base is not None:
        run.manifest.begun = {"from": relative(base, path)}
        take_from(run, Run(base))
    if after is not None:
        run.manifest.begun = {"after": relative(after, path)}
        begin_round(run, Run(after))
    run.write_text("config.json", config_file.text(config))
    return run


def existing(path: Path, given: dict, base: Path | None, after: Path | None, pack: bool) -> Run:
    """A run that exists. UserError if a flag contradicts it. A larger number of generations is accepted: the search
    goes on to it."""
    run = Run(path)
    if run.manifest.packed and not pack:
        raise UserError(f"{path} is a pack and read-only; begin a run of your own with: --run NEW --from {path}")
    run.need("config.json")
    require_settings(run, given, "leave the flag out, or choose another --run")
    for name, other in (("from", base), ("after", after)):
        if other and run.manifest.begun.get(name) != relative(other, path):
            how = " ".join(f"--{key} {value}" for key, value in run.manifest.begun.items()) or "from settings alone"
            made = f"{path} exists and began {how}"
            raise UserError(f"--{name} {other}: {made}; leave the flag out, or use another --run")
    if given.get("generations", 0) > run.config.generations:
        run.save_config(tasks.replace(run.config, generations=given["generations"]))
    return run


def require_settings(run: Run, given: dict, remedy: str) -> None:
    """UserError, ending with `remedy`, if a run has other settings than `given`, or fewer generations."""
    for name, value in given.items():
        own = getattr(run.config, name)
        if own != value and not (name == "generations" and value > own):
            raise UserError(f"{flag(name)} {value}: {run} was made with {flag(name)} {own}; {remedy}")


def relative(other: Path, path: Path) -> str:
    """Another run's folder, as seen from the folder of this one."""
    return os.path.relpath(other.resolve(), path.resolve())


def begin_agent(run: Run, name: str, config: Config) -> Run:
    """The run of a further agent in `run`'s agents/, made if it is new. It links V, M and the first frames of `run`."""
    agent = Run(run / artifacts.AGENTS / name, config)
    if not (agent / "config.json").exists():
        agent.manifest.rows.clear()
        agent.manifest.begun = {"from": "../.."}
        agent.path.mkdir(parents=True, exist_ok=True)
        for model in KEPT:
            if run.is_current(model):
                (agent / model).unlink(missing_ok=True)
                (agent / model).symlink_to(f"../../{model}")
                row = run.manifest.rows[model]
                agent.manifest.rows[model] = row | {"made_from": {V: run.digest(V)} if model != V else {}}
        if (run / BEFORE).exists() and config.search_start != "zero":
            copy_round(run / BEFORE, agent / BEFORE, weights=True)
        agent.write_text("config.json", config_file.text(config))
    elif config != Run(agent.path).config:
        agent.save_config(config)
    return agent


def resolve(path: Path, given: dict, base: Path | None, after: Path | None) -> Config:
    """The settings of a new run. Nothing is written."""
    if base is not None and after is not None:
        raise UserError("--from and --after: a run begins from one other run; leave one of them out")
    name, source = ("--from", base) if after is None else ("--after", after)
    if source is None:
        if "task" not in given:
            names = " or ".join(f"--task {name}" for name in (*tasks.TASKS, "gymnasium:ID"))
            raise UserError(f"{path} is a new run: give {names} (and --preset)")
        return tasks.replace(tasks.preset(given["task"], given.get("preset", "paper")), **given)
    start = config_file.load(source)
    if "preset" in given:
        raise UserError(f"--preset {given['preset']}: with {name} the rest is as in {source}; leave one of them out")
    if given.get("task", start.task) != start.task:
        raise UserError(f"--task {given['task']}: {source} is a run of task {start.task}")
    if after is not None:
        if "episodes" not in given:
            stay = "with 0, V and M stay as they are, and C alone goes on"
            raise UserError(f"--after {after}: give the number of --episodes that its agent is to record; {stay}")
        # The recordings of a pack are not there to be linked. What a round was given for itself does not hold later.
        linked = start.total_episodes if (after / "record").exists() else 0
        start = dataclasses.replace(start, round=start.round + 1, linked_episodes=linked, search_start="previous")
        config = tasks.replace(start, **given)
        require_continuable(config, Run(after))
        return config
    if start.round > 1 and not (source / BEFORE / V).exists():
        # The settings of a later round's search are made for an agent to start from, and a pack has none.
        usual = vars(tasks.preset(start.task, start.preset))
        search = {name: usual[name] for name in SEARCH_SETTINGS.split()}
        start = dataclasses.replace(start, search_start="zero", **search)
        note(f"{source} has no agent of the round before: C begins at zero, with the search settings of {start.preset}")
    config = tasks.replace(start, **given)
    if config.round > 1 and (changed := differing(config, start, "record")):
        flags = ", ".join(map(flag, changed))
        made = f"{base} is of round {config.round}, and its recordings were made with other settings"
        raise UserError(f"{flags}: {made}; leave the flag out, or begin the next round with: --after {base}")
    return config


def differing(one: Config, other: Config, *names: str) -> list[str]:
    """The settings in which two configurations differ, of those that these artifacts depend on."""
    groups = artifacts.settings_of(*names)
    fields = {*groups, *fields_of(*groups), "task"}
    return [name for name, value in vars(one).items() if name in fields and vars(other)[name] != value]


def same_settings(one: Config, other: Config, *names: str) -> bool:
    """Whether two configurations agree in all settings that these artifacts depend on."""
    return not differing(one, other, *names)


def take_from(run: Run, base: Run) -> None:
    """Links a base run's recordings, and copies its V and M with their learning curves, each if the settings that it
    depends on are the same. A new seed alone keeps V and M: C is then evolved again."""
    data = same_settings(run.config, base.config, "record")
    if data and base.is_current("record"):
        episodes.link(run, base, base.manifest.rows["record"]["episodes"])
        run.record_episodes(dict(base.manifest.rows["record"]["episodes"]), base.seconds("record"))
    if data and (base / BEFORE).exists():
        copy_round(base / BEFORE, run / BEFORE, weights=True)
    first_v = {"vae" in one.config.untrained for one in (run, base)}  # whether V has its first weights
    kept = [name for name in KEPT if len(first_v) == 1 and same_settings(run.config, base.config, name)]
    for name in kept:
        run.adopt(name, base)
    letters = {"vae": V, "rnn": M}
    lines = [line for line in files.read_lines(base / "metrics.jsonl") if letters.get(line["model"]) in kept]
    if lines:
        files.write_lines(run / "metrics.jsonl", lines)


def begin_round(run: Run, after: Run) -> None:
    """Links the recordings of the round before, and copies its V, M and C, from which training goes on."""
    copy_round(after.path, run / BEFORE, weights=True)
    if run.config.models_stay:
        for name in KEPT:
            run.adopt(name, after)
        picture = "pictures/reconstructions.png"
        if (after / picture).exists():
            files.copy(after / picture, run / picture)
    if run.config.linked_episodes:
        after.need("record")
        episodes.link(run, after, after.manifest.rows["record"]["episodes"])
        if run.config.models_stay:  # nothing more is recorded
            run.record_episodes(dict(run.manifest.rows["linked"]["episodes"]))


def copy_round(source: Path, to: Path, weights: bool) -> None:
    """Copies the records of a run and of the rounds before it, and with `weights` its V, M and searches too."""
    searches = [f"{folder}/checkpoint.npz" for folder in artifacts.SEARCHES.values()]
    for name in (*RECORDS, *((*KEPT, *searches) if weights else ())):
        if (source / name).is_file():
            files.copy(source / name, to / name)
    if (source / BEFORE / "config.json").is_file():
        copy_round(source / BEFORE, to / BEFORE, weights=False)


def require_continuable(config: Config, after: Run) -> None:
    """UserError unless V, M and C can go on from those of `after`, and learn from its recordings where they are
    linked."""
    curious = ["curious/best.json"] if config.needs_curious else []
    for name in ("config.json", V, M, "controller/best.json", *curious):
        after.need(name)
    start = after.config
    for names, wanted, why in (
        (("z_size", "rnn_units", "mixtures"), True, "V and M go on and keep their sizes"),
        (("view", "pixels"), config.linked_episodes > 0, "V and M also learn from its recordings"),
        (("heads",), config.models_stay, "with --episodes 0 M stays as it is"),
        (("features",), config.search_start != "zero", "C goes on, unless --search-start zero is added"),
    ):
        for name in names:
            own, found = getattr(config, name), getattr(start, name)
            if wanted and own != found:
                raise UserError(f"{flag(name)} {own}: {after} has {flag(name)} {found}, and {why}; leave the flag out")


def remove_partial(path: Path) -> None:
    """Removes what an interrupted beginning has linked and copied. A run without config.json has nothing else."""
    for link in (path / "record").glob("[0-9]*.npz"):
        if link.is_symlink() and not link.parent.is_symlink():
            link.unlink()
    shutil.rmtree(path / BEFORE, ignore_errors=True)
