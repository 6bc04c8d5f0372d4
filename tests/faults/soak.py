"""Evolves C for a while, in the real environment and in the dream, and prints whether memory, open files and speed stay
flat.

    python tests/faults/soak.py --task carracing --minutes 30
    python tests/faults/soak.py --run runs/car --minutes 30     # the search of an existing run

Prints a line for each environment: the least-squares slopes of the ranks' resident memory and open files, and the
change of the time that a step takes, from the last two thirds of the samples, since the first third fills caches.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from bench import SIZES, STAGES, Bench, processes
from run import mpirun

EVERY = 2.0  # seconds between two samples
PAGE = os.sysconf("SC_PAGE_SIZE")


def sample(case: str) -> tuple[int, int]:
    """Resident bytes and open files of a case's processes."""
    memory = files = 0
    for process in processes(case):
        try:
            memory += int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1]) * PAGE
            files += len(os.listdir(f"/proc/{process}/fd"))
        except OSError:
            continue  # it has ended
    return memory, files


def slope(times: np.ndarray, values: np.ndarray) -> float:
    """The least-squares slope, for each second."""
    return float(np.polyfit(times, values, 1)[0])


def lines(path: Path) -> list[dict]:
    """The lines of a history; [] if there is none."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def step_times(history: list[dict]) -> np.ndarray:
    """Relative times of a step of each generation but the first, without generations that also scored the mean."""
    took = zip(np.diff([line["seconds"] for line in history]), history[1:], strict=True)
    times = np.array([each / line["mean_steps"] for each, line in took if line["evaluation"] is None])
    return times / times.mean() if times.size else times


def soak(bench: Bench, name: str, run: Path, flags: list[str], seconds: float) -> str:
    """Evolves for a while, or until the run's last generation; returns a line of what was measured."""
    history = run / "controller/history.jsonl"
    before, job = len(lines(history)), bench.start("train_controller.py", run, flags, ranks=2)
    while len(lines(history)) <= before and job.poll() is None:
        time.sleep(0.1)
    start, rows = time.monotonic(), []
    while (now := time.monotonic() - start) < seconds and job.poll() is None:
        rows.append((now, *sample(job.case)))
        time.sleep(EVERY)
    job.terminate()
    _, err = job.communicate()
    if job.returncode not in (0, 128 + 15) or len(rows) < 9:
        raise SystemExit(f"{run}: status {job.returncode} after {len(rows)} samples: {err}")
    times, memory, files = np.array(rows[len(rows) // 3 :]).T
    played = lines(history)[before:]
    found = (
        f"{name}: {rows[-1][0] / 60:.1f} min, {len(played)} generations; memory {memory.mean() / 1e6:.0f} MB, "
        f"{slope(times, memory) * 3600 / 1e6:+.1f} MB/h; open files {files.mean():.0f}, "
        f"{slope(times, files) * 3600:+.1f}/h"
    )
    each = step_times(played[len(played) // 3 :])
    if len(each) > 2:
        found += f"; time of a step {slope(np.arange(len(each)), each) * len(each):+.1%} from first to last"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=SIZES, default="carracing", help="what is played (default carracing)")
    parser.add_argument("--minutes", type=float, default=30, help="for each environment (default 30)")
    parser.add_argument("--run", type=Path, metavar="DIR", help="go on with this run's search instead")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    bench = Bench(folder.resolve(), args.task, mpirun())
    try:
        if args.run:
            print(soak(bench, args.run.name, args.run.resolve(), [], 60 * args.minutes), flush=True)
            return
        bench.make()
        for name in ("C real", "C dream"):
            run = bench.copy(STAGES[name], "soak")
            print(soak(bench, name, run, ["--generations", "1000000"], 60 * args.minutes), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
