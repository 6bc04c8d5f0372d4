"""All stages in a row: random episodes, V, M, C, and the test episodes beside the published score.

    mpirun -n 2 python train_all.py --run runs/demo --task carracing --preset smoke
    mpirun -n 2 python train_all.py --run runs/car --task carracing --preset laptop --rounds 3

With --rounds K all of it K times, the paper's iterative procedure: in every further round, DIR-2, DIR-3 ..., the agent
of the last one records episodes, and V, M and C go on learning from there.

Every stage is what its own script does, and is skipped as far as its result is there: the same command again
goes on where it stopped, but plays the test episodes again. V and M are trained by rank 0 with all cores, while the
other ranks sleep.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from controller import evolution
from world_models import command_line, mpi, results, signals, tasks
from world_models import config as configs
from world_models.command_line import say
from world_models.config import UserError
from world_models.runs import agent_file, integrity, lock, provenance, run_dir, storage
from world_models.runs.command_log import log_command
from world_models.stages import evaluation, recording
from world_models.tracking import add_flag, track
from world_models.training import quiet_tensorflow

ROUND_EPISODES = 300  # that the agent records for a further round, where nothing is said
SLEEP = 0.5  # seconds between two tests of a rank that waits for a training


def train(comm, script: str, run: Path, tracked: bool, task: str = "") -> None:
    """Runs a single-process stage as a program of its own, on rank 0: it uses every core, a rank only one. It is given
    `--task` where the user has named one that may not come from the run's folder (`tasks.require_harmless`)."""
    failed = None
    if comm.rank == 0:
        flags = ["--task", task] * (":" in task and task in tasks.NAMED) + ["--track"] * tracked
        command = [sys.executable, Path(__file__).parent / script, "--run", run, *flags]
        ours = {lock.HOLDER: str(os.getpid()), signals.COMMAND: provenance.command()}
        child = subprocess.Popen(command, env=os.environ | ours)
        signalled = False
        while (failed := child.poll()) is None:
            if mpi.stopping(comm) and not signalled:
                child.send_signal(signals.received())
                signalled = True
            time.sleep(SLEEP)
    mpi.wait(comm, SLEEP)
    failed = comm.bcast(failed)
    if failed and (number := signals.child_stopped(failed)):
        if failed == 128 + number:  # it has said what it saved
            raise SystemExit(failed)
        raise signals.Stopped(number, command_line.NOTHING)
    if failed:
        raise mpi.CollectiveError(f"{script} ended with status {failed}; its message is above")


def stages(comm, run: Path, config: configs.Config, episodes: int, tracked: bool = False) -> dict[str, float]:
    """Runs all stages; returns the seconds of each."""
    tests = ["dream", "real"] if tasks.pays_in_dreams(config) else ["real"]
    work = {
        "extract": lambda: recording.extract(comm, run, config),
        "vae": lambda: train(comm, "train_vae.py", run, tracked, config.task),
        "rnn": lambda: train(comm, "train_rnn.py", run, tracked, config.task),
        "controller": lambda: evolution.evolve(comm, run, config),
    }
    for env in tests:
        there = evaluation.configured(config, env=env)
        work[f"test, {env}"] = lambda there=there: evaluation.evaluate(
            comm, run, there, episodes, video=there.env == "real"
        )
    seconds = {}
    quiet_tensorflow()
    for name, stage in work.items():
        started = time.monotonic()
        mpi.stop_together(comm, f"{run} holds what was complete")
        stage()
        seconds[name] = time.monotonic() - started
    return seconds


def run_of_round(run: Path, number: int) -> Path:
    """The folder of a round: DIR, DIR-2, DIR-3 ..."""
    return run if number == 1 else run.with_name(f"{run.name}-{number}")


def episodes_of(run: Path, given: int | None) -> int:
    """Episodes that a further round records: as `given`, as it was made, or ROUND_EPISODES."""
    if not (run / "config.json").exists():
        return given or ROUND_EPISODES
    made = run_dir.load(run).episodes
    if given not in (None, made):
        raise UserError(
            f"--round-episodes {given}: {run} was made with {made}; leave the flag out, or choose another --run"
        )
    return made


def measure(comm, run: Path, config: configs.Config, count: int) -> None:
    """V's and M's errors on `count` episodes of the round's own agent, into DIR/held_out/errors.json."""
    recording.extract_held_out(comm, run, config, count)
    path = run / "held_out" / "errors.json"

    def errors() -> None:
        from world_models.stages import held_out

        agent = integrity.read_json(run / "controller" / "best.json")["parameters"]
        made_from = integrity.digests(run, "vae", "rnn") | {"agent": agent_file.digest(agent), "episodes": count}
        if not path.exists() or integrity.read_json(path).get("made_from", made_from) != made_from:
            held_out.held_out_episodes(run, config)
            found = held_out.errors(run, config, recording.held_out_paths(run, count))
            storage.write_text(path, json.dumps(integrity.sealed(found | {"made_from": made_from})) + "\n")

    mpi.on_root(comm, errors)


def read_errors(path: Path) -> dict:
    """What `measure` wrote: v_error, m_loss and, where episodes end, recall and deaths; UserError if it lacks one."""
    errors = integrity.read_json(path)
    names = ("v_error", "m_loss") + ("recall", "deaths") * ("recall" in errors or "deaths" in errors)
    if wrong := [name for name in names if type(errors.get(name)) not in (int, float)]:
        raise UserError(f"{path} is broken: expected a number as {wrong[0]}; delete it to have it measured again")
    return errors


def rounds_table(runs: list[Path]) -> str:
    """A row a round: V and M on what its agent meets, and what the agent scores."""
    form = "{:>5} {:>9} {:>8} {:>12} {:>16} {:>16}"
    lines = [form.format("round", "V's error", "M's loss", "death recall", "dream", "game")]
    for number, run in enumerate(runs, 1):
        errors = read_errors(run / "held_out" / "errors.json")
        scores = {row["env"]: f"{row['mean']:.1f} ± {row['std']:.1f}" for row in results.read(run / "results.json")}
        recall = f"{errors['recall']:.0%} of {errors['deaths']}" if "recall" in errors else ""
        cells = [f"{errors['v_error']:.1f}", f"{errors['m_loss']:.3f}", recall]
        lines.append(form.format(number, *cells, scores.get("dream", ""), scores.get("real", "")))
    return "\n".join(lines)


def main(comm) -> None:
    parser = command_line.parser(__doc__, quiet=comm.rank > 0, stage=("run",))
    add_flag(parser)
    count = command_line.count
    parser.add_argument("--rounds", type=count, default=1, metavar="K", help="rounds to go through (default 1)")
    parser.add_argument(
        "--round-episodes",
        type=count,
        metavar="N",
        help=f"episodes that the agent records for each further round (default {ROUND_EPISODES})",
    )
    parser.add_argument(
        "--held-out",
        type=count,
        default=48,
        metavar="N",
        help="with --rounds: episodes of each round's own agent that V and M are measured on (default 48)",
    )
    parser.add_argument("--test-episodes", type=count, default=100, help="test episodes at the end (default 100)")
    args = parser.parse_args()
    runs = [run_of_round(args.run, number) for number in range(1, args.rounds + 1)]
    with ExitStack() as locks:
        for number, run in enumerate(runs, 1):
            locks.enter_context(lock.hold(run, comm))
            if number == 1:
                config = mpi.on_root(comm, run_dir.open_run, run, command_line.overrides(args), args.base, args.after)
            else:
                if config.needs_curious:
                    with log_command(runs[number - 2], comm):
                        evolution.evolve(comm, runs[number - 2], config, "surprise")
                given = {"episodes": mpi.on_root(comm, episodes_of, run, args.round_episodes)}
                given |= {"restart": config.restart}
                config = mpi.on_root(comm, run_dir.open_run, run, given, None, runs[number - 2])
            with log_command(run, comm), track(args.track, run, config, comm):
                seconds = stages(comm, run, config, args.test_episodes, args.track)
                if args.rounds > 1:
                    measure(comm, run, config, args.held_out)
            if comm.rank == 0:
                show(run, seconds)
    if comm.rank == 0 and args.rounds > 1:
        say("")
        say(rounds_table(runs))


def show(run: Path, seconds: dict[str, float]) -> None:
    """Prints what a run scored, how long its stages took, and what its folder holds."""
    say("")
    say(evaluation.table(results.read(run / "results.json")))
    say("seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))
    say(f"{run} now holds:")
    for path in sorted(run.rglob("*")):
        if (
            path.is_file()
            and path.name != lock.NAME
            and not {"record", "held_out", "before", "tensorboard"} & set(path.parts)
        ):
            say(f"  {path.relative_to(run)}  {path.stat().st_size / 1e6:.2f} MB")
    say(f"  record/  {len(list((run / 'record').iterdir()))} episodes")


if __name__ == "__main__":
    mpi.launch(main)
