"""Kills, signals, damaged files, full disks and odd launches, against the stages' real commands.

    python tests/faults/run.py                           # what `make faults` runs; hours
    python tests/faults/run.py --task toy --count 1      # a small environment, once each

Prints a line a case, and last how many were as promised; exits with 1 if one was not. What is promised stands in
docs/reliability.md.
"""

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

import cases
from bench import SIZES, STAGES, Bench

KINDS = ("kills", "signals", "damage", "disk", "launches", "locks")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=SIZES, default="carracing", help="what is played (default carracing)")
    parser.add_argument("--count", type=int, default=10, help="kills a stage and target (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the damage (default 0)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="which cases (default all)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="which stages (default all)")
    parser.add_argument("--openmpi", metavar="PATH", help="Open MPI's mpirun, for two launches more")
    return parser.parse_args()


def mpirun() -> str:
    """The launcher beside this Python, or the one on the path."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.exists() else "mpirun"


def all_cases(bench: Bench, args: argparse.Namespace, rng: random.Random):
    """The cases of the kinds that were asked for."""
    makers = {
        "kills": lambda: cases.kills(bench, args.stages, args.count, rng),
        "signals": lambda: cases.signals(bench, args.stages, max(1, args.count // 5), rng),
        "damage": lambda: cases.damage(bench, rng, other_runs(bench)),
        "disk": lambda: cases.disk(bench, args.stages, (1000, 100_000, 10_000_000)),
        "launches": lambda: cases.launches(bench, args.openmpi),
        "locks": lambda: (*cases.two_commands(bench), *cases.read_only(bench)),
    }
    for kind in args.kinds:
        yield from makers[kind]()


def other_runs(bench: Bench) -> dict[str, Path]:
    """Complete runs whose files must not be taken: of another seed, and of another task."""
    task = "toy" if bench.task != "toy" else "carracing"
    seeded = Bench(bench.folder / "other-seed", bench.task, bench.mpirun)
    SIZES[bench.task], usual = SIZES[bench.task] + " --seed 7", SIZES[bench.task]
    seeded.make()
    SIZES[bench.task] = usual
    other = Bench(bench.folder / "other-task", task, bench.mpirun)
    other.make()
    return {"another run": seeded.bases["real"], "another task": other.bases["real"]}


def main() -> None:
    args = parse()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    bench = Bench(folder.resolve(), args.task, mpirun())
    count = good = 0
    try:
        bench.make()
        for title, fault in all_cases(bench, args, random.Random(args.seed)):
            count, good = count + 1, good + (not fault)
            print(f"{'as promised' if not fault else 'NOT AS PROMISED':<16}{title}", flush=True)
            if fault:
                print(f"{'':<16}{fault}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{count} cases, {good} as promised")
    raise SystemExit(good < count)


if __name__ == "__main__":
    main()
