"""Runs all stages in a row: recordings, V, M, C, and the test episodes next to the published score.

    mpirun -n 2 python train_all.py --run runs/demo --task carracing --preset smoke
    mpirun -n 2 python train_all.py --run runs/car --task carracing --preset laptop --rounds 3

With --rounds K all of it happens K times, as in the paper's iterative procedure: in every further round, in DIR-2,
DIR-3 ..., the agent of the last round records episodes, and V, M and C go on learning from there.

Every stage is what its own script does. Rerun the same command to resume: it skips what is complete, and plays the test
episodes again. Rank 0 trains V and M with all cores, while the other ranks sleep.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from controller import evolution
from world_models import command_line, interruption, mpi, results, tasks
from world_models.command_line import print_result
from world_models.runs import files
from world_models.runs.agent import digest
from world_models.runs.artifacts import M, V
from world_models.runs.begin import open_run
from world_models.runs.lock import NAME as LOCK
from world_models.runs.run import Run
from world_models.stages import evaluation, recording
from world_models.tracking import add_flag, track
from world_models.training import quiet_tensorflow

ROUND_EPISODES = 300  # that the agent records for a further round, where nothing is said
SLEEP = 0.5  # seconds between two tests of a rank that waits for a training


def train(comm, script: str, run: Run, tracked: bool) -> None:
    """Runs a single-process stage as a program of its own, on rank 0: it uses every core, a rank only one. It is given
    `--task` where the user has named one that may not come from the run's folder (`tasks.require_trusted_import`)."""
    failed = None
    if comm.rank == 0:
        task = run.config.task
        flags = ["--task", task] * (":" in task and task in tasks.TRUSTED_TASKS) + ["--track"] * tracked
        command = [sys.executable, Path(__file__).parent / script, "--run", run.path, *flags]
        shared = run.lock.share()
        environment = shared.pop("env", os.environ) | {interruption.CHILD: "1"}
        failed = subprocess.run(command, env=environment, **shared).returncode
        if number := interruption.child_signal(failed):
            interruption.end(number)
    mpi.wait(comm, SLEEP)
    failed = comm.bcast(failed)
    if failed:
        how = f"was killed by signal {-failed}" if failed < 0 else f"ended with status {failed}; see its message above"
        raise mpi.CollectiveError(f"{script} {how}")


def stages(comm, run: Run, count: int, tracked: bool = False) -> dict[str, float]:
    """Runs all stages, and tests of `count` episodes; returns the seconds of each."""
    tests = ["dream", "real"] if tasks.pays_in_dreams(run.config) else ["real"]
    work = {
        "extract": lambda: recording.extract(comm, run),
        "vae": lambda: train(comm, "train_vae.py", run, tracked),
        "rnn": lambda: train(comm, "train_rnn.py", run, tracked),
        "controller": lambda: evolution.evolve(comm, run),
    }
    for env in tests:
        there = evaluation.configured(run.config, play_in=env)
        work[f"test, {env}"] = partial(evaluation.evaluate, comm, run, there, count, video=env == "real")
    seconds = {}
    quiet_tensorflow()
    for name, stage in work.items():
        started = time.monotonic()
        stage()
        run.reread()
        seconds[name] = time.monotonic() - started
    return seconds


def measure(comm, run: Run, count: int) -> None:
    """Measures V and M on `count` episodes of the round's own agent, into held_out/errors.json."""
    recording.extract_held_out(comm, run, count)
    path = run / "held_out/errors.json"

    def errors() -> None:
        from world_models.stages import held_out  # here: it loads TensorFlow

        agent = digest(files.read_json(run.need("controller/best.json"))["parameters"])
        made_from = {"vae": run.digest(V), "rnn": run.digest(M), "agent": agent, "episodes": count}
        if not path.exists() or files.read_json(path).get("made_from") != made_from:
            found = held_out.errors(run, held_out.held_out_episodes(run)[:count])
            files.write_text(path, json.dumps(found | {"made_from": made_from}) + "\n")

    mpi.on_root(comm, errors)


def rounds_table(runs: list[Run]) -> str:
    """A row for each round: V's and M's errors on what its agent meets, and the agent's scores."""
    form = "{:>5} {:>9} {:>8} {:>12} {:>16} {:>16}"
    lines = [form.format("round", "V's error", "M's loss", "death recall", "dream", "game")]
    for number, run in enumerate(runs, 1):
        errors = files.read_json(run / "held_out/errors.json")
        plain = [row for row in results.read(run) if row["variant"] == "plain"]
        scores = {row["play_in"]: f"{row['mean']:.1f} ± {row['std']:.1f}" for row in plain}
        recall = f"{errors['recall']:.0%} of {errors['deaths']}" if "recall" in errors else ""
        cells = [f"{errors['v_error']:.1f}", f"{errors['m_loss']:.3f}", recall]
        lines.append(form.format(number, *cells, scores.get("dream", ""), scores.get("real", "")))
    return "\n".join(lines)


def main(comm) -> None:
    parser = command_line.parser(__doc__, quiet=comm.rank > 0, stage=("run",))
    add_flag(parser)
    count = command_line.count
    parser.add_argument("--rounds", type=count, default=1, metavar="K", help="rounds to go through (default 1)")
    text = f"episodes that the agent records for each further round (default {ROUND_EPISODES})"
    parser.add_argument("--round-episodes", type=count, metavar="N", help=text)
    text = "with --rounds: episodes of each round's own agent that V and M are measured on (default 48)"
    parser.add_argument("--held-out", type=count, default=48, metavar="N", help=text)
    parser.add_argument("--test-episodes", type=count, default=100, help="test episodes at the end (default 100)")
    args = parser.parse_args()
    if args.rounds > 1 and args.run.name in ("", ".."):
        raise mpi.CollectiveError(f"--run {args.run}: the rounds' folders are named after it; give one with a name")
    paths = [args.run, *(args.run.with_name(f"{args.run.name}-{number}") for number in range(2, args.rounds + 1))]
    runs: list[Run] = []
    with ExitStack() as stack:
        for number, path in enumerate(paths, 1):
            given, base, after = command_line.overrides(args), args.base, args.after
            if number > 1:
                config = runs[-1].config
                if config.needs_curious:
                    evolution.evolve(comm, runs[-1], "surprise")
                given, base, after = {"search_start": config.search_start}, None, paths[number - 2]
                if args.round_episodes or not mpi.on_root(comm, (path / "config.json").exists):
                    given["episodes"] = args.round_episodes or ROUND_EPISODES
            run = stack.enter_context(open_run(path, given, comm, base=base, after=after))
            runs.append(run)
            with track(args.track, run, comm):
                seconds = stages(comm, run, args.test_episodes, args.track)
                if args.rounds > 1:
                    measure(comm, run, args.held_out)
            if comm.rank == 0:
                show(run, seconds)
    if comm.rank == 0 and args.rounds > 1:
        print_result("")
        print_result(rounds_table(runs))


def show(run: Run, seconds: dict[str, float]) -> None:
    """Prints what a run scored, how long its stages took, and what its folder holds."""
    print_result("")
    print_result(evaluation.table(results.read(run)))
    if run.config.preset == "smoke":
        print_result("The smoke preset is too short to learn anything: such a score shows that every stage works.")
    print_result("seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))
    print_result(f"{run} now holds:")
    hidden = {LOCK, "record", "held_out", "before", "tensorboard"}
    for path in sorted(run.path.rglob("*")):
        if path.is_file() and not hidden & set(path.relative_to(run.path).parts):
            print_result(f"  {path.relative_to(run.path)}  {path.stat().st_size / 1e6:.2f} MB")
    print_result(f"  record/  {len(list((run / 'record').glob('[0-9]*.npz')))} episodes")


if __name__ == "__main__":
    mpi.launch(main)
