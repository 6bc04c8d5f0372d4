"""Kills, signals, damaged files, full disks and odd launches, against the stages' real commands.

    python tests/faults/run.py                                    # what `make faults` runs; hours
    python tests/faults/run.py --folder faults --minutes 20       # a part; rerun the same command to resume
    python tests/faults/run.py --task toy --count 1               # a small environment, once each

Promised, and checked:
- A killed stage resumes to the results of an undisturbed run.
- SIGTERM, SIGINT, SIGUSR1 and SIGHUP end every rank within 5 seconds: status 128 + signal, one line that says how to
  resume, no traceback. The stage resumes to the same results.
- A damaged file, or one of another run, is one line that names it, and nothing is changed.
- A full disk is one line that names the file. What existed stays, and the stage resumes.
- The number of ranks, the working directory and the locale change no result.
- A second command in a folder is refused, and does not disturb the first.

Prints a line for each case, and last how many were as promised. Exits with 1 if one was not.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cases
from bench import SIZES, STAGES, Bench

KINDS = ("kills", "signals", "damage", "disk", "launches", "locks")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=SIZES, default="carracing", help="what is played (default carracing)")
    parser.add_argument("--count", type=int, default=2, help="kills of a stage and target (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the damage (default 0)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="which cases (default all)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="which stages (default all)")
    parser.add_argument("--folder", type=Path, help="keep runs and results here, and resume from them")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no case after this time")
    return parser.parse_args()


def mpirun() -> str:
    """The launcher next to this Python, or the one on the path."""
    own = Path(sys.executable).parent / "mpirun"
    return str(own) if own.exists() else "mpirun"


def all_cases(bench: Bench, args: argparse.Namespace) -> Iterator[cases.Case]:
    """The cases of the kinds that were asked for."""
    makers = {
        "kills": lambda: cases.interruptions(bench, args.stages, args.count, (signal.SIGKILL,)),
        "signals": lambda: cases.interruptions(bench, args.stages, max(1, args.count // 5), cases.SIGNALS),
        "damage": lambda: cases.damage(bench, Bench(bench.folder / "other", bench.task, bench.mpirun)),
        "disk": lambda: cases.disk(bench, args.stages, (1000, 100_000, 10_000_000)),
        "launches": lambda: cases.launches(bench),
        "locks": lambda: cases.locks(bench),
    }
    for kind in args.kinds:
        yield from makers[kind]()


def main() -> None:
    args = parse()
    folder = (args.folder or Path(tempfile.mkdtemp(prefix="faults-"))) / args.task
    bench = Bench(folder.resolve(), args.task, mpirun())
    tried = folder / "cases.json"
    found = json.loads(tried.read_text(encoding="utf-8")) if tried.exists() else {}
    end, left = time.monotonic() + 60 * args.minutes, 0
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
        print(f"{left} cases are left; rerun the same command to resume")
    good = sum(not fault for fault in found.values())
    print(f"{len(found)} cases, {good} as promised")
    raise SystemExit(good < len(found))


if __name__ == "__main__":
    main()
