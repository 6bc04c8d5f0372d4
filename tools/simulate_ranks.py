"""Simulates a generation of the search on more ranks than there are here, from times measured here.

    python -m tools.simulate_ranks --run pretrained/carracing --out docs/ranks.png

Measures, on this machine: a step of a rank by the episodes it plays at once, the search's own time a generation, and a
message between two ranks. Then plays the protocol of controller/jobs.py (`Jobs`) event by event: rank 0 hands out
episodes and plays too, and answers between two of its own steps. Prints a table and draws it. No cluster was used; what
is assumed stands in docs/clusters.md.
"""

import dataclasses
import heapq
import json
from pathlib import Path

import numpy as np

from tools.rank_times import LANES, Times, measure, times_of
from world_models import command_line, tasks
from world_models import config as configs
from world_models.runs import run_dir, storage
from world_models.training import quiet_tensorflow

RANKS = (64, 256, 1024)
SETTINGS = ((64, 16), (256, 16), (1024, 16), (1024, 64))  # population x episodes
POLL = 0.0005  # seconds between two looks of a rank that waits for jobs


def simulate(times: Times, ranks: int, lanes: int, population: int, episodes: int, seed: int = 0) -> dict:
    """One generation: its seconds, the ranks' busy share, the lanes' busy share, and rank 0's share for messages."""
    rng = np.random.default_rng(seed)
    count = population * episodes
    lengths = rng.choice(times.lengths, count)
    given, steps, desk_free, served = 0, 0, 0.0, 0
    played = [[] for _ in range(ranks)]  # steps left of each episode that a rank plays
    busy = np.zeros(ranks)
    lane_time = 0.0
    boundary, root_step = times.search, 0.0  # rank 0's last known step boundary, and the length of its steps
    # Candidates reach every rank over a binary tree of messages.
    start = times.search + times.message * np.ceil(np.log2(ranks)) if ranks > 1 else times.search
    events = [(start, 1 if rank else 0, rank) for rank in range(ranks)]  # rank 0 first at equal times
    heapq.heapify(events)
    finish = start
    stretch = [0] * ranks  # its steps
    since = np.full(ranks, start)  # when a rank's present stretch of steps began
    while events:
        now, _, rank = heapq.heappop(events)
        left = played[rank]
        if left:  # a stretch of steps has ended
            done = stretch[rank]
            steps += done * len(left)
            busy[rank] += now - since[rank]
            lane_time += (now - since[rank]) * len(left) / lanes
            left[:] = [n - done for n in left if n > done]
            finish = max(finish, now)
        room = lanes - len(left)
        if room and given < count:
            if rank:  # rank 0 answers between two of its own steps, one rank after another
                asked = now + times.message
                if root_step:
                    asked = boundary + root_step * np.ceil(max(0.0, asked - boundary) / root_step)
                desk_free = max(desk_free, asked) + times.message
                served += 1
                reply = desk_free + (POLL / 2 if not left else 0.0)
            else:
                reply = now
            take = min(room, -(-(count - given) // ranks))
            left += sorted(lengths[given : given + take])
            left.sort()
            given += take
            # The lanes that play really go on meanwhile; here they wait with the free ones.
            since[rank] = reply
        else:
            since[rank] = now
        if left:
            step = times.step(lanes, len(left))
            if rank == 0:
                boundary, root_step = since[0], step
            # To the next episode's end; or a step, where a rank that got fewer than it has room for asks again.
            stretch[rank] = 1 if len(left) < lanes and given < count else left[0]
            heapq.heappush(events, (since[rank] + stretch[rank] * step, 1 if rank else 0, rank))
        elif rank == 0:
            root_step = 0.0  # it only answers now
    finish += times.message * np.ceil(np.log2(ranks)) if ranks > 1 else 0.0  # results are gathered
    return {
        "seconds": finish,
        "busy": float(busy.sum() / (ranks * finish)),
        "lanes_busy": float(lane_time / (ranks * finish)),
        "root_messages": served * times.message / finish,
        "steps_per_s": steps / finish,
    }


def table(times: Times) -> list[dict]:
    """Every setting on every number of ranks: each with the fewest lanes that hold its episodes, up to the largest."""
    rows = []
    for population, episodes in SETTINGS:
        for ranks in RANKS:
            share = -(-population * episodes // ranks)
            lanes = next((n for n in LANES if n >= share), LANES[-1])
            found = simulate(times, ranks, lanes, population, episodes)
            best = lanes_rate(times, LANES[-1]) * ranks
            rows.append(
                {"population": population, "episodes": episodes, "ranks": ranks, "lanes": lanes}
                | found
                | {"of_full_lanes": found["steps_per_s"] / best}
            )
    return rows


def lanes_rate(times: Times, lanes: int) -> float:
    """Agent-steps a second of one rank whose lanes all play."""
    return lanes / times.step(lanes, lanes)


def text(times: Times, rows: list[dict]) -> str:
    batch = ", ".join(f"{lanes} {1000 * value:.1f} ms" for lanes, value in times.models.items())
    lines = [
        f"V, M and C by lanes: {batch}; environment {1000 * times.env:.2f} ms a step; message "
        f"{1e6 * times.message:.0f} us; search {times.search:.2f} s a generation; "
        f"episodes of {min(times.lengths)} to {max(times.lengths)} steps, mean {np.mean(times.lengths):.0f}",
        "",
        "| population x episodes | ranks | lanes | s a generation | ranks busy | rank 0, messages | agent-steps/s "
        "| of full lanes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['population']} x {row['episodes']} | {row['ranks']} | {row['lanes']} | {row['seconds']:.1f} "
            f"| {row['busy']:.0%} | {row['root_messages']:.1%} | {row['steps_per_s']:,.0f} "
            f"| {row['of_full_lanes']:.0%} |"
        )
    return "\n".join(lines)


def draw(rows: list[dict], path: Path) -> None:
    """Busy share and agent-steps/s by ranks, a line for each setting."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for population, episodes in SETTINGS:
        mine = [row for row in rows if (row["population"], row["episodes"]) == (population, episodes)]
        ranks, label = [row["ranks"] for row in mine], f"{population} × {episodes}"
        left.plot(ranks, [100 * row["busy"] for row in mine], "o-", label=label)
        right.plot(ranks, [row["steps_per_s"] for row in mine], "o-", label=label)
    left.axhline(90, color="grey", linewidth=0.8, linestyle="--")
    left.set(ylabel="time in which ranks play, %", ylim=(0, 102))
    right.set(ylabel="agent-steps a second", ylim=(0, None))
    right.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (left, right):
        axes.set(xlabel="ranks (simulated)", xscale="log")
        axes.set_xticks(RANKS, [f"{n:,}" for n in RANKS])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(title="candidates × episodes", frameon=False, fontsize=8)
    with storage.atomic_write(path) as tmp:
        figure.savefig(tmp, dpi=120)


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="a run with V, M and C")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.png", help="the plot; the times go to FILE.json"
    )
    parser.add_argument("--times", type=Path, metavar="FILE.json", help="do not measure: take the times of this file")
    args = parser.parse_args()
    config = run_dir.load(args.run)
    if tasks.get(config.task).max_lanes:
        raise configs.UserError(
            f"{args.run}: environments of {config.task} compute in processes of their own, unmeasured"
        )
    run_dir.need_models(args.run)
    if args.times:
        times = times_of(json.loads(args.times.read_text()))
    else:
        quiet_tensorflow()
        times = measure(args.run, dataclasses.replace(config, population=64, dtype="float32"))
        storage.write_text(args.out.with_suffix(".json"), json.dumps(dataclasses.asdict(times), indent=1) + "\n")
    rows = table(times)
    print(text(times, rows))
    draw(rows, args.out)


if __name__ == "__main__":
    command_line.command(main)
