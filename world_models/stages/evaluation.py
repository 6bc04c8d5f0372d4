"""Test episodes and their results: what evaluate.py does."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np

from controller.policy import Controller
from world_models import command_line, mpi, published, results, seeds, statistics, tasks
from world_models import config as configs
from world_models.progress import bar as progress_bar
from world_models.runs import integrity, provenance, run_dir, storage
from world_models.runs.agent_file import digest, read_best
from world_models.runs.command_log import processor


def score(comm, run: Path, config: configs.Config, best: dict, episodes: int) -> dict | None:
    """Plays `episodes` test episodes; on rank 0 the row of results.json, elsewhere None."""
    trained = run_dir.load(run)
    from controller import rollout
    from controller.lanes import make_lanes

    started = time.monotonic()
    lanes = mpi.on_all_ranks(comm, make_lanes, run, config)
    plan = seeds.test_seeds(episodes)
    params = np.repeat(np.array(best["parameters"])[None], episodes, axis=0)
    bar = progress_bar(total=episodes, desc="test episodes", unit="episode", disable=comm.rank > 0)
    # Other ranks' episodes are seen only at the end: each has about as many as this one.
    saved = "the test's episodes are not kept, it begins anew"
    returns, steps = rollout.evaluate(
        comm, lanes, params, plan, lambda n: bar.update(min(comm.size, episodes - bar.n)), saved
    )
    bar.close()
    lanes.close()
    if comm.rank:
        return None
    return results.identity(trained, **dataclasses.asdict(config)) | {
        "generation": best["generation"],
        **integrity.digests(run, "vae", "rnn"),
        "agent": digest(best["parameters"]),
        "episodes": episodes,
        **statistics.summary(returns, tasks.get(config.task).mark),
        "mean_steps": float(steps.mean()),
        "seconds": round(time.monotonic() - started, 1),
        "ranks": comm.size,
        "hardware": f"{processor()}, {comm.size} rank{'s' * (comm.size > 1)}",
        **provenance.record(),
        "command": provenance.command(),
        "returns": [float(value) for value in returns],
        "seeds": [int(value) for value in plan],
    }


def table(rows: list[dict]) -> str:
    """Results beside the published scores, as text."""
    form = "{:<10} {:<32} {:>12} {:>16} {:>8} {:>8} {:>8} {:>9}"
    lines = [form.format("task", "where", "paper", "ours", "median", "min", "max", "episodes")]
    for row in rows:
        ours = f"{row['mean']:.1f} ± {row['std']:.1f}"
        middle = [f"{row[name]:.1f}" for name in ("median", "min", "max")]
        lines.append(form.format(row["task"], results.where(row), published.text(row), ours, *middle, row["episodes"]))
    return "\n".join(lines)


def in_words(row: dict) -> str:
    """How certain a row's mean is, and what else its returns say."""
    found = statistics.summary(row["returns"], tasks.get(row["task"]).mark)
    text = f"standard error {found['standard_error']:.1f}; "
    if found["interval"]:
        low, high = found["interval"]
        text += f"95% bootstrap interval of the mean over {row['episodes']} episodes {low:.1f} to {high:.1f}; "
    else:
        text += f"an interval takes {statistics.FEWEST_EPISODES} episodes; "
    text += f"interquartile mean {found['interquartile_mean']:.1f}"
    return text + (f"; {found['solved']:.0%} reach {found['mark']:g}" if "mark" in found else "")


def counterpart(row: dict, other: Path) -> dict:
    """The row of another run's results.json that was played as `row`, on the same episodes; UserError if there is
    none. Of several, the one in the same arithmetic, and of those the one that shares most episodes."""
    played = ("task", "env", "view", "pixels", *("temperature",) * (row["env"] == "dream"))
    rows = [found for found in results.read(other / "results.json") if {"returns", "seeds"} <= found.keys()]
    fits = [found for found in rows if all(found[k] == row[k] for k in played)]
    shared = [len(set(found["seeds"]) & set(row["seeds"])) for found in fits]
    if not fits or not max(shared):
        more = f" --env dream --temperature {row['temperature']:g}" if row["env"] == "dream" else ""
        raise configs.UserError(
            f"--against {other}: its results.json has no test of {results.where(row)} on these episodes; make it with: "
            f"python evaluate.py --run {other} --episodes {row['episodes']}{more}"
        )
    return max(zip(fits, shared, strict=True), key=lambda fit: (fit[1] > 0, fit[0]["dtype"] == row["dtype"], fit[1]))[0]


def require_same_dreams(run: Path, other: Path) -> None:
    """UserError unless two runs dream with the same M, and begin and end their dreams alike: the same seeds give other
    dreams than these."""
    ours, theirs = map(run_dir.load, (run, other))
    odd = [name for name in results.RELEASED if getattr(ours, name) != getattr(theirs, name)]
    how = [f"{configs.flag(name)} {getattr(theirs, name)}" for name in odd]
    how += ["another M"] * (integrity.digests(run, "rnn") != integrity.digests(other, "rnn"))
    if how:
        raise configs.UserError(
            f"--against {other}: it dreams with {' and '.join(how)}, unlike {run}, so no episode is the same; compare "
            "the agents in the game, without --env dream"
        )


def comparison(row: dict, other: Path) -> str:
    """A row's returns against another run's on the same episodes, in words; UserError as of `counterpart`."""
    found = statistics.paired(row, counterpart(row, other))
    certain = f" (an interval takes {statistics.FEWEST_EPISODES} episodes)"
    if found["interval"]:
        low, high = found["interval"]
        certain = f", 95% bootstrap interval {low:+.1f} to {high:+.1f}"
    return (
        f"against {other}, on the same {found['episodes']} episodes: {found['mean']:+.1f} a return, standard "
        f"error {found['standard_error']:.1f}{certain}; better in {found['better']:.0%}"
    )


def evaluate(
    comm,
    run: Path,
    config: configs.Config,
    episodes: int,
    video: bool,
    keep: bool = True,
    against: Path | None = None,
) -> dict | None:
    """Scores the run's agent in `config`'s environment; with `keep` adds it to results.json, with `video` films, with
    `against` compares it with another run's results, episode by episode."""
    best = mpi.on_root(comm, read_best, run / "controller", Controller.of(config).num_params)
    if keep:
        mpi.on_root(comm, require_results_file, run, config)
    if against is not None:  # a missing counterpart fails before an hour of play
        if config.env == "dream":
            mpi.on_root(comm, require_same_dreams, run, against)
        planned = results.identity(run_dir.load(run), **dataclasses.asdict(config))
        planned |= {"episodes": episodes, "seeds": seeds.test_seeds(episodes)}
        mpi.on_root(comm, counterpart, planned, against, share=False)
    row = score(comm, run, config, best, episodes)
    mpi.on_root(comm, publish, run, config, best, row, video, keep, against, share=False)
    return row


def require_results_file(run: Path, config: configs.Config) -> None:
    """UserError if results.json is broken, another run's or cannot be written: before an hour of play, not after it."""
    path = run / "results.json"
    results.require_own(path, config, integrity.digests(run, "vae", "rnn"))
    storage.require_room(path, 1 << 20)


def publish(
    run: Path, config: configs.Config, best: dict, row: dict, video: bool, keep: bool, against: Path | None
) -> None:
    """Saves, prints, compares and films a row, in this order: neither a closed output nor a full disk must cost what
    was played. If it cannot be saved it is printed, whole, before the error is raised."""
    path, unsaved = run / "results.json", None
    if keep:
        try:
            results.add(path, row)
        except (OSError, configs.UserError) as error:  # its disk is full since, or it was changed by hand
            unsaved = error
    command_line.say(table([row]))
    command_line.say(in_words(row))
    if unsaved is not None:
        command_line.say(f"to be added to {path}, which was not written: {json.dumps(row)}")
        raise unsaved
    if against is not None:
        command_line.say(comparison(row, against))
    if video:
        from world_models.stages.film import films

        for path in films(run, config, best["parameters"], row):
            command_line.say(f"film: {path}")


def configured(config: configs.Config, **changes) -> configs.Config:
    """The run's configuration with a test's changes, among them float32 unless `changes` has another dtype; tests have
    no patience."""
    return tasks.replace(config, **({"dtype": "float32", "patience": 0} | changes))
