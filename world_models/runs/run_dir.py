"""The run folder: its configuration, and what it begins with: another run's files, or a round's."""

import dataclasses
import filecmp
import os
import shutil
from contextlib import suppress
from pathlib import Path

from world_models import tasks
from world_models.runs import config_file, integrity, storage
from world_models.runs.packed import require_writable
from world_models.progress import note
from world_models.config import Config, UserError, flag

AGENTS = "agents"  # folder, in a run's, of the runs of further agents (stages/variations.py)
# What they share with it.
MODELS = ("vae.weights.h5", "rnn.weights.h5", "initial_z.npz", "dream_starts.npz")


def resolve_config(run: Path, given: dict, base: Path | None = None, after: Path | None = None) -> Config:
    """The run's configuration: read from its folder, or made of `given` (and `base`, or `after`, the run of the round
    before) if it is new.

    Writes nothing; `save` does that. Raises UserError where `given` contradicts what the run holds; but
    more generations than it has are no contradiction: the search goes on.
    """
    path = run / "config.json"
    if "task" in given:
        tasks.get(tasks.named(given["task"]))  # that there is no such task comes before what the run holds
    if path.exists():
        config = load(run)
        if given.get("generations", 0) > config.generations:
            config = tasks.replace(config, generations=given["generations"])
        for name, value in given.items():
            if getattr(config, name) != value:
                raise UserError(
                    f"{flag(name)} {value}: {run} was made with {flag(name)} {getattr(config, name)}; "
                    "leave the flag out, or choose another --run"
                )
        return config
    if base is not None and after is not None:
        raise UserError("--from and --after: a run begins from one other; leave one of them out")
    source = after or base
    if source is not None:
        start = load(source)
        if "preset" in given:
            name = "--after" if after else "--from"
            raise UserError(
                f"--preset {given['preset']}: with {name} the rest is as in {source}; leave one of them out"
            )
        if given.get("task", start.task) != start.task:
            raise UserError(f"--task {given['task']}: {source} is a run of task {start.task}")
        if after is not None:
            if "episodes" not in given:
                raise UserError(
                    f"--after {after}: say how many --episodes its agent is to record, for example 300; or 0, with "
                    "which V and M stay as they are, and C goes on"
                )
            # What an earlier round was given for itself alone does not hold for the next.
            linked = count_recordings(after, start)
            start = dataclasses.replace(start, round=start.round + 1, linked=linked, restart="no")
        elif start.round > 1 and not (source / BEFORE).exists():  # a packed one has not the round before
            start = dataclasses.replace(start, restart="yes")
    else:
        if "task" not in given:
            names = " or ".join(f"--task {name}" for name in (*tasks.TASKS, "gymnasium:ID"))
            raise UserError(f"{run} is a new run: say {names} (and --preset)")
        start = tasks.preset(given["task"], given.get("preset", "paper"))
    return tasks.replace(start, **given)


def load(run: Path) -> Config:
    """Reads DIR/config.json; UserError if it is missing, broken or of another version."""
    try:
        return config_file.parse(run / "config.json")[0]
    except FileNotFoundError:
        path = run / "config.json"
        raise UserError(f"{run} holds no run: {path} is missing; make one with extract.py --run {run}") from None


def count_recordings(run: Path, config: Config) -> int:
    """Episodes that the next round can link: all that the run records, or 0 (a packed run has none)."""
    found = len(list((run / "record").glob("[0-9]*.npz")))
    if found not in (0, config.total_episodes):
        raise UserError(
            f"{run}/record holds {found} of {config.total_episodes} episodes; record the rest first: "
            f"python extract.py --run {run}"
        )
    return found


def open_run(run: Path, given: dict, base: Path | None = None, after: Path | None = None) -> Config:
    """The configuration of a run, from `resolve_config`; makes the run if it is new, with what it can use of `base`,
    or with what the next round of `after` begins with.

    A number of generations that has grown is written when the search goes on (controller/evolution.py: begin).
    UserError if the run is there already and began from another than `base` or `after`.
    """
    new = not (run / "config.json").exists()
    require_writable(run, f"begin a run of your own with --run NEW --from {run}")
    config = resolve_config(run, given, base, after)
    given_bases = {name: path for name, path in (("from", base), ("after", after)) if path is not None}
    origin = {name: os.path.relpath(path.resolve(), run.resolve()) for name, path in given_bases.items()}
    if not new:
        require_origin(run, origin)
        return config
    if base is not None:
        copy_from_base(run, config, base)
    if after is not None:
        begin_round(run, config, after)
    storage.write_text(run / "config.json", config_file.text(config, origin))
    return config


def require_origin(run: Path, origin: dict[str, str]) -> None:
    """UserError if a run is there already and did not begin as `origin` says, {flag: folder relative to the run's}."""
    _, began = config_file.parse(run / "config.json")
    if not origin or began == origin:  # a later stage need not repeat the flag
        return
    if began is None:
        name, path = next(iter(origin.items()))
        note(
            f"--{name} {os.path.normpath(run / path)} changes nothing: {run} is there already, from before runs said "
            "what they began from"
        )
        return
    given, instead = (
        " ".join(f"--{name} {os.path.normpath(run / path)}" for name, path in way.items()) for way in (origin, began)
    )
    how = f"with {instead}" if instead else "without it"
    raise UserError(f"{given}: {run} is there already and began {how}; leave it out, or choose another --run")


def copy_from_base(run: Path, config: Config, base: Path) -> None:
    """Links a base run's episodes and latents, and copies its V and M with their learning curves; each if the
    settings that it depends on are the same here."""
    start = load(base)

    def same(what: str) -> bool:
        return config_file.settings_digest(config, what) == config_file.settings_digest(start, what)

    # A new seed alone starts from the same V and M: it is C that is evolved again.
    vae, rnn = map(same, ("vae", "rnn"))
    data = same("episode") and config.episodes == start.episodes
    if config.round > 1 and not data:
        raise UserError(
            f"--from {base}: it is of round {config.round}, whose recordings are of other settings than these: begin a "
            "round of your own, with --after, or leave out the flags of what is recorded"
        )
    run.mkdir(parents=True, exist_ok=True)
    remove_links(run)
    # Only if complete: a stage that records the base's missing episodes must not do so with this run's seed.
    complete = len(list((base / "record").glob("[0-9]*.npz"))) == start.total_episodes
    recorded = data and complete and (config.vae_weight == 1 or start.vae_weight != 1)  # with the masks that V needs
    links = (("record", recorded), ("series.npz", vae and config.mirror == start.mirror), (BEFORE, data))
    for name, fits in links:
        if fits and (base / name).exists():
            (run / name).symlink_to((base / name).resolve())
    fitting = {"vae.weights.h5": vae, "initial_z.npz": vae, "rnn.weights.h5": rnn, "dream_starts.npz": rnn}
    for name, fits in fitting.items():
        if fits and (base / name).exists():
            storage.copy(base / name, run / name)
    kept = {name for name, fits in (("vae", vae), ("rnn", rnn)) if fits}
    lines = [line for line in storage.read_lines(base / "metrics.jsonl") if line["model"] in kept]
    if lines:
        storage.write_lines(run / "metrics.jsonl", lines)


BEFORE = "before"  # folder of a run that holds the V, M and C of the round before
GOES_ON_FROM = ("config.json", "vae.weights.h5", "rnn.weights.h5", "controller/best.json")


def require_continuable(config: Config, start: Config, after: Path) -> None:
    """UserError unless V, M and C of `config` can go on from those of `start`, the run `after`, and learn from its
    recordings where these are linked."""
    if config.linked and config.vae_weight != 1 and start.vae_weight == 1:
        raise UserError(
            f"--vae-weight: the recordings of {after} have no masks; they are made with it in the first round"
        )
    if (config.z_size, config.rnn_units, config.mixtures) != (start.z_size, start.rnn_units, start.mixtures):
        raise UserError(f"--z-size, --rnn-units, --mixtures: V and M go on from {after}'s, whose sizes they keep")
    for name in ("view", "pixels") * (config.linked > 0):
        if getattr(config, name) != getattr(start, name):
            raise UserError(
                f"{flag(name)} {getattr(config, name)}: the recordings of {after}, from which V and M learn too, have "
                f"{flag(name)} {getattr(start, name)}; leave it out"
            )
    if config.models_stay and config.heads != start.heads:
        raise UserError(f"--heads {config.heads}: with --episodes 0 M stays as it is, and {after}'s has {start.heads}")
    if config.restart != "yes" and config.features != start.features:
        raise UserError(
            f"--features {config.features}: C goes on from {after}'s, which sees {start.features}; leave it out, or "
            "add --restart yes, which lets C begin anew"
        )


def begin_round(run: Path, config: Config, after: Path) -> None:
    """Links the recordings of the round before, and copies its V, M and C, where training goes on from."""
    for name in GOES_ON_FROM:
        need(after / name, f"python train_all.py --run {after}")
    start = load(after)
    require_continuable(config, start, after)
    if config.needs_curious:
        need(after / "curious/best.json", f"python train_controller.py --run {after} --objective surprise")
    more = [f"{part}/{name}" for part in ("controller", "curious") for name in ("checkpoint.npz", "history.jsonl")]
    remove_links(run)
    for name in (*GOES_ON_FROM, "curious/best.json", *more):
        if (after / name).exists():
            storage.copy(after / name, run / BEFORE / name)
    for name in (*MODELS, "pictures/reconstructions.png") * config.models_stay:
        if (after / name).exists():
            storage.copy(after / name, run / name)
    (run / "record").mkdir(parents=True, exist_ok=True)
    for index in range(config.linked):
        name = f"{index:06d}.npz"
        (run / "record" / name).symlink_to((after / "record" / name).resolve())


def remove_links(run: Path) -> None:
    """Removes what a first time that was interrupted has linked, and the round before: they may be another run's."""
    for path in (run / "record", run / "series.npz", run / BEFORE):
        if path.is_symlink():
            path.unlink()
    for path in (run / "record").glob("[0-9]*.npz"):
        if path.is_symlink():
            path.unlink()
    with suppress(OSError):  # if it is empty
        (run / "record").rmdir()
    shutil.rmtree(run / BEFORE, ignore_errors=True)


def save(config: Config, run: Path) -> None:
    """Writes DIR/config.json, which keeps what it says of the run's base."""
    path = run / "config.json"
    origin = config_file.parse(path)[1] if path.exists() else {}
    storage.write_text(path, config_file.text(config, origin))


def same_models(run: Path, part: Path) -> None:
    """UserError if `part`, a run below `run` that shares its V and M, holds other ones."""
    for name in MODELS:
        if (run / name).exists() and (part / name).exists() and not filecmp.cmp(run / name, part / name, shallow=False):
            raise UserError(f"{part}/{name} is not {run}'s, which was trained again since; delete {part}")


def need(path: Path, command: str) -> Path:
    """Returns `path`; UserError saying which command makes it if it is missing."""
    if not path.exists():
        raise UserError(f"{path} is missing; make it with: {command}")
    return path


def need_models(run: Path) -> None:
    """UserError unless V and M are there, M made from this V. Says which of the run's files are read unchecked."""
    need(run / "vae.weights.h5", f"python train_vae.py --run {run}")
    rnn = need(run / "rnn.weights.h5", f"python train_rnn.py --run {run}")
    integrity.check_made_from(rnn, integrity.check_weights(rnn), run, ("vae",))
    report_unchecked(run)


def report_unchecked(run: Path) -> None:
    """Prints, in one line, which of a run's files are from before digests and records were kept."""
    names = [name for _, name in integrity.MODELS.values()]
    old = [name for name in names if (run / name).exists() and integrity.check_weights(run / name) is None]
    if old:
        note(f"note: {run}: no digests in {', '.join(old)}, from before they were kept: read unchecked")
