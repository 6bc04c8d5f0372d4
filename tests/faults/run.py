"""Kills, signals, damaged files, full disks and odd launches, against the stages' real commands.

    python tests/faults/run.py                                    # what `make faults` runs; hours
    python tests/faults/run.py --folder faults --minutes 20       # a part; the same command again goes on
    python tests/faults/run.py --task toy --count 1               # a small environment, once each

Prints a line a case, and last how many were as promised, of all that were tried in the folder; exits with 1 if one was
not. What is promised stands in docs/files.md.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cases
import interruptions
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
    parser.add_argument("--folder", type=Path, help="keep runs and results here, and go on with them")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no case after so long")
    return parser.parse_args()


def mpirun() -> str:
    """The launcher beside this Python, or the one on the path."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.exists() else "mpirun"


def all_cases(bench: Bench, args: argparse.Namespace) -> Iterator[interruptions.Case]:
    """The cases of the kinds that were asked for."""
    other = "toy" if bench.task != "toy" else "carracing"
    others = {
        "another run's": Bench(bench.folder / "other-run", bench.task, bench.mpirun),
        "another run's, same seed": Bench(bench.folder / "other-settings", bench.task, bench.mpirun),
        "another task's": Bench(bench.folder / "other-task", other, bench.mpirun),
    }
    makers = {
        "kills": lambda: interruptions.kills(bench, args.stages, args.count),
        "signals": lambda: interruptions.signals(bench, args.stages, max(1, args.count // 5)),
        "damage": lambda: cases.damage(bench, others),
        "disk": lambda: cases.disk(bench, args.stages, (1000, 100_000, 10_000_000)),
        "launches": lambda: cases.launches(bench, args.openmpi),
        "locks": lambda: cases.locks(bench),
    }
    for kind in args.kinds:
        yield from makers[kind]()


def main() -> None:
    args = parse()
    folder = (args.folder or Path(tempfile.mkdtemp(prefix="faults-"))) / args.task
    bench = Bench(folder.resolve(), args.task, mpirun())
    tried = folder / "cases.json"
    found = json.loads(tried.read_text()) if tried.exists() else {}
    end = time.monotonic() + 60 * args.minutes
    left = 0
    try:
        bench.make()
        for title, attempt in all_cases(bench, args):
            if found.get(title) == "":  # what was not as promised is tried again
                continue
            if time.monotonic() > end:
                left += 1
                continue
            started = time.monotonic()
            try:
                fault = attempt(random.Random(f"{args.seed} {title}"))
            except Exception as error:  # of the harness itself: the other cases go on
                fault = f"could not be tried: {error!r}"
            found[title] = fault
            took = f"{time.monotonic() - started:5.0f} s  "
            print(f"{'as promised' if not fault else 'NOT AS PROMISED':<16}{took}{title}", flush=True)
            if fault:
                print(f"{'':<25}{fault}", flush=True)
            tried.write_text(json.dumps(found, indent=1))
    finally:
        if args.folder is None:
            shutil.rmtree(folder.parent, ignore_errors=True)
    if left:
        print(f"{left} cases are left: the same command goes on")
    good = sum(not fault for fault in found.values())
    print(f"{len(found)} cases, {good} as promised")
    raise SystemExit(good < len(found))


if __name__ == "__main__":
    main()
