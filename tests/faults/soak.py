"""Evolves C for a while, in the real environment and in the dream, and prints whether memory, open files and speed stay
flat.

    python tests/faults/soak.py --task carracing --minutes 30
    python tests/faults/soak.py --run runs/car --minutes 30     # the evolution of a run of one's own

A line an environment: least-squares slopes of the ranks' resident memory and of their open files, and the change of a
generation's time, from the last two thirds of the samples: the first third fills caches. As agents that learn also live
longer, or otherwise, new processes then play the last sixth of the generations again, which are the same to the bit: a
process that had grown slower would need longer than they do.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench import ROOT, SIZES, STAGES, Bench, processes
from run import mpirun

sys.path.insert(0, str(ROOT))

from world_models.config import rollouts_at

EVERY = 2.0  # seconds between two samples
LAST = 5 / 6  # of the time, after which generations are also played by new processes
PAGE = os.sysconf("SC_PAGE_SIZE")


def sample(case: str) -> tuple[int, int]:
    """Resident bytes and open files of a case's processes."""
    memory = files = 0
    for process in processes(case):
        try:
            memory += int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1]) * PAGE
            files += len(os.listdir(f"/proc/{process}/fd"))
        except OSError:
            continue  # ended meanwhile
    return memory, files


def slope(times: np.ndarray, values: np.ndarray) -> float:
    """Least squares, a second."""
    return float(np.polyfit(times, values, 1)[0])


def lines(path: Path) -> list[dict]:
    """The rows of a history; empty if it is not there yet."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def durations(history: list[dict], rollouts: str) -> np.ndarray:
    """Seconds of each generation but the first, an episode of each candidate, without those that also evaluated the
    mean. A schedule `rollouts` may give later generations more episodes."""
    took = zip(np.diff([line["seconds"] for line in history]), history[1:], strict=True)
    return np.array(
        [each / rollouts_at(rollouts, line["generation"]) for each, line in took if line["evaluation"] is None]
    )


def copy(case: str, run: Path, to: Path) -> None:
    """Copies a run while its evolution goes on, as a kill at that moment would leave it; recordings are linked."""
    for process in (held := processes(case)):
        os.kill(process, signal.SIGSTOP)
    shutil.copytree(run, to, symlinks=True, ignore=shutil.ignore_patterns(".lock", "record"))
    if (run / "record").exists():
        (to / "record").symlink_to((run / "record").resolve())
    for process in held:
        os.kill(process, signal.SIGCONT)


def begin(bench: Bench, run: Path, flags: list[str]):
    """Starts or goes on with an evolution; returns its job after the first generation, with how many there were."""
    job = bench.start("train_controller.py", run, flags, ranks=2)
    history = run / "controller" / "history.jsonl"
    before = len(lines(history))
    while len(lines(history)) == before:
        if job.poll() is not None:
            raise SystemExit(job.communicate()[1])
        time.sleep(0.1)
    return job, before


def end(job, run: Path) -> None:
    """Asks an evolution to stop, unless it has ended."""
    job.terminate()
    _, err = job.communicate()
    if job.returncode not in (0, 128 + 15):
        raise SystemExit(f"{run}: status {job.returncode}: {err}")


def played_again(bench: Bench, again: Path, history: list[dict], flags: list[str]) -> str:
    """Lets new processes go on from the copy `again` to the end of `history`, and says how the times compare."""
    job, before = begin(bench, again, flags)
    path = again / "controller" / "history.jsonl"
    while len(lines(path)) < len(history) and job.poll() is None:
        time.sleep(EVERY)
    end(job, again)
    new = lines(path)[before : len(history)]
    old = history[before:]
    if [line["mean"] for line in new] != [line["mean"] for line in old]:
        raise SystemExit(f"{again}: played again, generations {before + 1} to {len(history)} are not the same")
    took, fresh = (rows[-1]["seconds"] - rows[0]["seconds"] for rows in (old, new))
    took /= fresh
    return f"generations {before + 2} to {len(history)} took {took:.3f} of the time that new processes take for them"


def soak(bench: Bench, name: str, run: Path, flags: list[str], seconds: float) -> str:
    """Evolves for a while, or until the run's last generation; a line of what was measured."""
    job, before = begin(bench, run, flags)
    history, again = run / "controller" / "history.jsonl", bench.folder / f"{name} again"
    start, rows = time.monotonic(), []
    while (now := time.monotonic() - start) < seconds and job.poll() is None:
        rows.append((now, *sample(job.case)))
        if now > LAST * seconds and not again.exists():
            copy(job.case, run, again)
        time.sleep(EVERY)
    end(job, run)
    times, memory, files = np.array(rows[len(rows) // 3 :]).T
    played = lines(history)[before:]
    rollouts = json.loads((run / "config.json").read_text())["rollouts"]
    each = durations(played[len(played) // 3 :], rollouts)
    found = (
        f"{name}: {rows[-1][0] / 60:.1f} min, {len(played)} generations; memory {memory.mean() / 1e6:.0f} MB, "
        f"{slope(times, memory) * 3600 / 1e6:+.1f} MB/h; open files {files.mean():.0f}, "
        f"{slope(times, files) * 3600:+.1f}/h"
    )
    if len(each) > 2:  # not where every generation's mean is scored
        pace = slope(np.arange(len(each)), each) * len(each) / each.mean()
        found += f"; an episode of each candidate {each.mean():.2f} s, {pace:+.1%} from first to last"
    if again.exists():  # the run had so many generations
        found += f"; {played_again(bench, again, lines(history), flags)}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=SIZES, default="carracing", help="what is played (default carracing)")
    parser.add_argument("--minutes", type=float, default=30, help="for each environment (default 30)")
    parser.add_argument("--run", type=Path, metavar="DIR", help="go on with this run's evolution instead")
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
