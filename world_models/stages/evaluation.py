"""Test episodes and their results: what evaluate.py does."""

import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from controller import rollout
from controller.policy import Controller
from controller.watchers import Bar, Progress
from world_models import command_line, mpi, published, results, seeds, statistics, tasks
from world_models import config as configs
from world_models.config import UserError
from world_models.runs import files
from world_models.runs.agent import digest, read_best
from world_models.runs.artifacts import M, V
from world_models.runs.manifest import command, commit, digest_of, machine, versions
from world_models.runs.run import Run

PARTIAL = "results.partial"  # the folder with the finished episodes of a test that is not complete


def identity(run: Run, config: configs.Config, best: dict) -> dict:
    """What tells a test from others: the settings, and the digests of V, M and the agent."""
    row = results.identity(run.config, **dataclasses.asdict(config)) | {"generation": best["generation"]}
    found = {"vae": run.digest(V), "rnn": run.digest(M), "agent": digest(best["parameters"])}
    return row | {name: value for name, value in found.items() if value is not None}


def finished(run: Run, test: str) -> dict[int, tuple[float, int]]:
    """(return, steps) of the episodes that an interrupted test has finished, by seed."""
    found = {}
    for path in sorted((run / PARTIAL).glob("*.jsonl")):
        for line in files.read_lines(path):
            kinds = {"seed": files.is_count, "steps": files.is_count, "return": files.is_number}
            if line.get("test") == test and not files.describe_type_error(line, kinds):
                found[line["seed"]] = (float(line["return"]), line["steps"])
    return found


def score(comm: mpi.Comm, run: Run, config: configs.Config, best: dict, episodes: int, keep: bool) -> dict | None:
    """Plays `episodes` test episodes; on rank 0 the row of results.json, elsewhere None. With `keep` every finished
    episode is stored, and those that an interrupted test has stored are not played again."""
    from controller.lanes import make_lanes  # here: TensorFlow must stay out of train_all, which imports this module

    started = time.monotonic()
    row = mpi.on_root(comm, identity, run, config, best)
    test, plan = digest_of(row), seeds.test_seeds(episodes)
    done = mpi.on_root(comm, finished, run, test) if keep else {}
    left = [seed for seed in plan if seed not in done]
    bar = Bar(comm, episodes, "test episodes", episodes - len(left))

    def store(job: int, total: float, steps: int) -> None:
        if keep:
            line = {"test": test, "seed": left[job], "return": float(total), "steps": int(steps)}
            (run / PARTIAL).mkdir(exist_ok=True)
            files.append_line(run / PARTIAL / f"{comm.rank}.jsonl", line)

    if left:
        lanes = mpi.on_all_ranks(comm, make_lanes, run, config)
        params = np.repeat(np.array(best["parameters"])[None], len(left), axis=0)
        returns, steps = rollout.evaluate(comm, lanes, params, left, [Progress(store), bar])
        lanes.close()
    bar.finish()
    bar.tqdm.close()
    if comm.rank:
        return None
    if left:
        done |= {seed: (float(a), int(b)) for seed, a, b in zip(left, returns, steps, strict=True)}
    returns, steps = (np.array([done[seed][k] for seed in plan]) for k in (0, 1))
    return row | {
        "episodes": episodes,
        **statistics.summary(returns, tasks.get(config.task).mark),
        "mean_steps": float(steps.mean()),
        "seconds": round(time.monotonic() - started, 1),
        "ranks": comm.size,
        "hardware": f"{machine()}, {comm.size} rank{'s' * (comm.size > 1)}",
        "commit": commit(),
        "versions": versions(),
        "command": command(),
        "returns": [float(value) for value in returns],
        "seeds": [int(value) for value in plan],
    }


def table(rows: list[dict]) -> str:
    """Results next to the published scores, as text."""
    form = "{:<10} {:<32} {:>12} {:>16} {:>8} {:>8} {:>8} {:>9}"
    lines = [form.format("task", "where", "paper", "ours", "median", "min", "max", "episodes")]
    for row in rows:
        ours = f"{row['mean']:.1f} ± {row['std']:.1f}"
        middle = [f"{row[name]:.1f}" for name in ("median", "min", "max")]
        where, paper = results.where(row), published.text(row) or "-"
        lines.append(form.format(row["task"], where, paper, ours, *middle, row["episodes"]))
    return "\n".join(lines)


def format_summary(row: dict) -> str:
    """The standard error, the intervals and the share of solved episodes of a row, as text."""
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
    dream = row["play_in"] == "dream"
    played = ("task", "play_in", "view", "variant", "pixels", *("temperature", "rnn", *results.RELEASED) * dream)
    fits = [found for found in results.read(Run(other)) if all(found.get(name) == row.get(name) for name in played)]
    shared = [len(set(found["seeds"]) & set(row["seeds"])) for found in fits]
    if not fits or not max(shared):
        more = f" --play-in dream --temperature {row['temperature']:g}" if dream else ""
        more += f" --variant {row['variant']}" if row["variant"] != "plain" else ""
        same = " (dreams are the same with the same M, --dream-frames and --dream-dropout)" * dream
        raise UserError(
            f"--against {other}: its results.json has no test of {results.where(row)} on these episodes{same}; make it "
            f"with: python evaluate.py --run {other} --episodes {row['episodes']}{more}"
        )
    return max(zip(fits, shared, strict=True), key=lambda fit: (fit[1] > 0, fit[0]["dtype"] == row["dtype"], fit[1]))[0]


def comparison(row: dict, other: Path) -> str:
    """A row's returns against another run's on the same episodes, in words; UserError as in `counterpart`."""
    found = statistics.paired(row, counterpart(row, other))
    assert found is not None, "a counterpart has the same episodes"
    certain = f" (an interval takes {statistics.FEWEST_EPISODES} episodes)"
    if found["interval"]:
        low, high = found["interval"]
        certain = f", 95% bootstrap interval {low:+.1f} to {high:+.1f}"
    return (
        f"against {other}, on the same {found['episodes']} episodes: {found['mean']:+.1f} a return, standard "
        f"error {found['standard_error']:.1f}{certain}; better in {found['better']:.0%}"
    )


def evaluate(
    comm: mpi.Comm, run: Run, config: configs.Config, episodes: int, video=True, keep=True, against: Path | None = None
) -> dict | None:
    """Scores the run's agent on test episodes in the environment of `config` (as in `configured`), films it with
    `video`, adds the row to results.json with `keep`, and compares it with the run `against` on the same episodes.
    Returns the row, on rank 0."""
    best = mpi.on_root(comm, read_best, run, Controller.of(config).num_params)

    def check() -> None:
        """What makes the test fail is reported before an hour of play."""
        if keep:
            results.require_own(run)
            files.require_room(run / results.NAME, 1 << 20)
        if against is not None:
            planned = {"episodes": episodes, "seeds": seeds.test_seeds(episodes)}
            counterpart(identity(run, config, best) | planned, against)

    def publish() -> None:
        """Saves, prints, compares and films the row, in this order: neither a closed output nor a full disk may cost
        what was played. If the row cannot be saved it is printed."""
        assert row is not None, "rank 0"
        try:
            if keep:
                results.add(run, row)
                shutil.rmtree(run / PARTIAL, ignore_errors=True)
        except (OSError, UserError):  # the disk has become full, or the file was changed by hand
            missing = f"{run / results.NAME} was not written; add this row to it: {json.dumps(row)}"
            command_line.print_result(missing)
            raise
        finally:
            command_line.print_result(table([row]))
            command_line.print_result(format_summary(row))
        if against is not None:
            command_line.print_result(comparison(row, against))
        if video:
            from world_models.stages.film import films  # here: TensorFlow must stay out of train_all

            for path in films(Run(run.path, config), best["parameters"], row):
                command_line.print_result(f"film: {path}")

    mpi.on_root(comm, check)
    row = score(comm, run, config, best, episodes, keep)
    mpi.on_root(comm, publish)
    return row


def configured(config: configs.Config, **changes: Any) -> configs.Config:
    """The settings of a test: the run's with `changes`. V's encoder is in float32, unless `changes` says otherwise."""
    return tasks.replace(config, **({"dtype": "float32"} | changes))
