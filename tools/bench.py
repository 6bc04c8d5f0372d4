"""Measures the speeds that the documentation states, on the machine it runs on; under 5 minutes.

    python -m tools.bench --json speeds.json
    python -m tools.bench --to-score     # ten minutes or more: the time to a return of 600, 700, 800

Each speed is the median of repeated runs after a warm-up (tools/speeds.py, tools/training_speeds.py). Let nothing else
run meanwhile.
"""

import json
import tempfile
from pathlib import Path

from tools import peer, speeds, time_to_score
from tools.training_speeds import training_speeds
from world_models import command_line, published
from world_models.runs import storage
from world_models.training import quiet_tensorflow

PAPER = {
    task: curve["agent_steps_per_second_on_64_cores"] for task, curve in published.read()["training_curves"].items()
}
SHIPPED, SCORED = speeds.ROOT / "pretrained" / "carracing", Path("runs") / "to-score"


def report(figures: dict) -> str:
    """The figures and their ratios, as text."""
    env, agent, dream, train = (figures[name] for name in ("env", "agent", "dream", "train"))
    split = ", ".join(f"{name} {share:.0%}" for name, share in agent["split"].items())
    rows = [
        ("CarRacing, Gymnasium's drawing", env["gymnasium"], "steps/s, one core"),
        ("CarRacing, v0 view", env["v0"], f"steps/s, one core: {env['v0'] / env['gymnasium']:.1f} x"),
        ("CarRacing, v3 view", env["v3"], f"steps/s, one core: {env['v3'] / env['gymnasium']:.1f} x"),
        ("TakeCover at 640x480", env["doom"], "steps/s, one core"),
        ("agents, 1 rank", agent["ranks_1"], "agent-steps/s"),
        (
            "agents, 2 ranks",
            agent["ranks_2"],
            f"agent-steps/s: {agent['ranks_2'] / agent['ranks_1']:.2f} x one rank, "
            f"{agent['ranks_2'] / PAPER['carracing']:.1f} x the paper's 64 cores, "
            f"{agent['ranks_2'] / agent['batch_1']:.1f} x batch 1 on one rank ({split})",
        ),
        ("agents, 2 ranks, bfloat16", agent["ranks_2_bfloat16"], "agent-steps/s"),
        ("agents, 1 rank, batch 1", agent["batch_1"], "agent-steps/s"),
        (
            "Doom's dream, 1,024 lanes on 2 ranks",
            dream["steps_per_s"],
            f"dream-steps/s: {dream['steps_per_s'] / PAPER['doom']:.1f} x the paper's 64 cores",
        ),
        ("Doom's dream, one environment", dream["single"], "dream-steps/s"),
        (
            "Doom's dream, 1,024 as one vector",
            dream["vector"],
            f"dream-steps/s: {dream['vector'] / dream['single']:.0f} x one environment, which 1,024 single ones reach",
        ),
        (
            "V's training, batch 100",
            train["vae_frames_per_s"],
            f"frames/s: {train['vae_flops'] / train['matmul_flops']:.0%} of a large matrix product's rate",
        ),
        (
            "M's training, 100 x 999",
            train["rnn_tokens_per_s"],
            f"tokens/s: {100 * 999 / train['rnn_tokens_per_s']:.2f} s a step, "
            f"{train['rnn_flops'] / train['matmul_flops']:.0%} of the same",
        ),
        ("memory of a rank", figures["memory"]["rank_mb"], "MB at its peak"),
    ]
    if peer := figures.get("peer"):
        rows += [
            ("EnvPool's CarRacing-v3, if installed", peer["envpool_env"], "steps/s, one core, resized to 64x64"),
            (
                "the same agents in it, 1 rank",
                peer["envpool_agent"],
                f"agent-steps/s: ours are {agent['ranks_1'] / peer['envpool_agent']:.1f} x",
            ),
        ]
    theirs = time_to_score.published_seconds("carracing")
    for name, seconds in figures.get("score", {}).items():
        mark = name.removeprefix("seconds_to_")
        paper = f"s on 2 ranks; published: at most {theirs[name]:,.0f} s on 64 cores" if theirs.get(name) else "s"
        if seconds is None:
            rows.append((f"to a score of {mark}", float("nan"), f"not in {time_to_score.LONGEST} generations"))
        else:
            rows.append((f"to a score of {mark}", seconds, paper))
    return "\n".join(f"{name:<38} {value:>10,.0f}  {text}" for name, value, text in rows)


def measure() -> dict:
    """All figures, nested as they are written."""
    figures: dict = {"env": speeds.environments()}
    quiet_tensorflow()
    with tempfile.TemporaryDirectory() as scratch:
        car, doom = Path(scratch) / "car", Path(scratch) / "doom"
        speeds.make_run(car, "carracing")
        speeds.make_run(doom, "doom")
        one, two = speeds.agents(car, 1, speeds.LANES), speeds.agents(car, 2, speeds.LANES)
        figures["agent"] = {
            "ranks_1": one["rate"],
            "ranks_2": two["rate"],
            "ranks_2_bfloat16": speeds.agents(car, 2, speeds.LANES, "bfloat16")["rate"],
            "batch_1": speeds.agents(car, 1, 1)["rate"],
            "split": two["split"],
        }
        if peer.installed():
            figures["peer"] = speeds.program("tools.peer", "--run", car, "--lanes", speeds.LANES)
        figures["memory"] = {"rank_mb": two["memory"]}
        figures["dream"] = {"steps_per_s": speeds.agents(doom, 2, 512)["rate"], "single": speeds.dream_alone(doom)}
        figures["dream"]["vector"] = speeds.dreams_together(doom)
    figures["train"] = training_speeds()
    return figures


def main() -> None:
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument(
        "--to-score",
        type=Path,
        nargs="?",
        const=SCORED,
        metavar="DIR",
        help="also evolve C with the shipped V and M until its mean scores 800, in DIR "
        f"(default {SCORED}); goes on where it stopped",
    )
    args = parser.parse_args()
    figures = measure()
    if args.to_score:
        figures["score"] = time_to_score.time_to_score(SHIPPED, args.to_score, flags=time_to_score.laptop("carracing"))
    print(report(figures))
    if args.json:
        storage.write_text(args.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    command_line.command(main)
