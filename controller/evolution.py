"""The evolution of C: what train_controller.py does."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np

import config as configs
import folder
import seeds
from controller import mpi, scoring
from controller.optimizers import make_optimizer
from progress import bar as progress_bar

DECIMALS = 4  # to which the mean is rounded before it is scored (train.py of the release)


def episode_plan(config: configs.Config, generation: int) -> tuple[int, list[int]]:
    """(episodes a candidate, the seeds of all candidates' episodes, candidate by candidate) of a generation.

    With "pairs", candidates i and i + half share theirs (the release's "antithetic"); with "common", all do.
    """
    sets = config.population // 2 if config.seeds == "pairs" else 1
    used = sum(configs.rollouts_at(config.rollouts, g) for g in range(1, generation)) * sets
    episodes = configs.rollouts_at(config.rollouts, generation)
    fresh = seeds.episode_seeds(config.seed, "train", used, sets * episodes)
    plan = []
    for candidate in range(config.population):
        first = candidate % sets * episodes
        plan += fresh[first : first + episodes]
    return episodes, plan


class Evolution:
    """The search's bookkeeping, on rank 0: the optimizer, history, the best agent, and their files."""

    def __init__(self, run: Path, config: configs.Config, size: int):
        self.config, self.path = config, run / "controller"
        self.es = make_optimizer(config, size, seeds.generator(config.seed, "evolution"))
        self.history: list[dict] = []
        self.best: dict | None = None
        self.seconds = 0.0
        self.dtype: str | None = None  # what the agents act in
        if (self.path / "checkpoint.npz").exists():
            extra = self.es.restore(self.path / "checkpoint.npz")
            self.history, self.best, self.seconds = extra["history"], extra["best"], extra["seconds"]
            self.dtype = extra.get("dtype")
            self.show()  # where it was killed between the two writings
        elif (self.path / "best.json").exists():
            raise configs.UserError(
                f"{self.path}/best.json has no checkpoint.npz beside it to go on from; evolve another agent with: "
                f"train_controller.py --run OTHER --from {run}"
            )

    def told(self, fitness: np.ndarray, steps: np.ndarray, seconds: float) -> dict:
        """Adds a generation to the history; its line."""
        self.seconds += seconds
        line = {
            "generation": len(self.history) + 1,
            "seconds": round(self.seconds, 2),
            "mean": float(fitness.mean()),
            "min": float(fitness.min()),
            "max": float(fitness.max()),
            "std": float(fitness.std()),
            "sigma": self.es.spread(),
            "mean_steps": float(steps.mean()),
            "evaluation": None,
        }
        self.history.append(line)
        return line

    def scored(self, mean: np.ndarray, returns: np.ndarray, seconds: float) -> None:
        """Notes what the distribution's mean scored, and keeps it if it is the best so far."""
        self.seconds += seconds
        line = self.history[-1]
        line["seconds"] = round(self.seconds, 2)
        line["evaluation"] = {
            "mean": float(returns.mean()),
            "std": float(returns.std()),
            "episodes": len(returns),
        }
        if self.best is None or line["evaluation"]["mean"] > self.best["score"]:
            self.best = {
                "generation": line["generation"],
                "score": line["evaluation"]["mean"],
                "std": line["evaluation"]["std"],
                "episodes": len(returns),
                "parameters": [round(float(w), DECIMALS) for w in mean],
            }

    def save(self) -> None:
        """Writes the checkpoint, then history and best agent, which it holds too."""
        extra = {"history": self.history, "best": self.best, "seconds": self.seconds, "dtype": self.dtype}
        self.es.save(self.path / "checkpoint.npz", extra)
        self.show()

    def show(self) -> None:
        """Writes history and best agent for others to read."""
        folder.write_text(self.path / "history.jsonl", "".join(json.dumps(line) + "\n" for line in self.history))
        if self.best is not None:
            folder.write_text(self.path / "best.json", json.dumps(self.best) + "\n")


def begin(run: Path, config: configs.Config, size: int) -> Evolution:
    """The search, begun or resumed; if it is to go on for longer than the run said, the run says so from now on."""
    evolution = Evolution(run, config, size)
    if config != folder.load(run):
        folder.save(config, run)
    return evolution


def evolve(comm, run: Path, config: configs.Config) -> None:
    """Runs the search from where it stands to the last generation."""
    from controller.agent import policy_size
    from controller.lanes import make_lanes
    from controller.precision import choose_dtype

    size = policy_size(config)
    leader = comm.rank == 0
    evolution = mpi.on_leader(comm, begin, run, config, size, share=False)
    dtype = choose_dtype(comm, run, config, evolution.dtype if leader else None)
    if leader:
        evolution.dtype = dtype
    lanes = mpi.together(comm, make_lanes, run, dataclasses.replace(config, dtype=dtype))
    first = comm.bcast(len(evolution.history) + 1 if leader else None)
    bar = progress_bar(
        total=config.generations,
        initial=first - 1,
        desc=f"evolving C on {comm.size} rank{'s' * (comm.size > 1)}",
        unit="generation",
        disable=not leader,
    )
    for generation in range(first, config.generations + 1):
        started = time.monotonic()
        episodes, plan = episode_plan(config, generation)
        candidates = comm.bcast(evolution.es.ask() if leader else None)
        params = np.repeat(candidates, episodes, axis=0)
        returns, steps = mpi.evaluate(comm, lanes, params, plan, patience=config.patience)
        if leader:
            fitness = returns.reshape(config.population, episodes).mean(axis=1)
            bonus = config.weight_bonus * np.mean(candidates**2, axis=1)
            evolution.es.tell(fitness + bonus)
            line = evolution.told(fitness, steps, time.monotonic() - started)
            bar.set_postfix(mean=f"{line['mean']:.1f}", max=f"{line['max']:.1f}", best=best_of(evolution))
        if generation % config.eval_every == 0 or generation == config.generations:
            score_mean(comm, lanes, config, evolution, generation)
        if leader:
            evolution.save()
            bar.update()
    bar.close()
    lanes.close()
    if leader and evolution.best:
        best = evolution.best
        print(
            f"best mean: {best['score']:.1f} ± {best['std']:.1f} over {best['episodes']} episodes, "
            f"generation {best['generation']}; {run}/controller/best.json"
        )


def temperature_row(comm, run: Path, config: configs.Config, temperatures: list[float], episodes: int) -> None:
    """The paper's table: an agent evolved at each temperature, tested in its dream and in the game.

    Each is a run of its own below `run`, with the same V and M, but that of `run`'s own temperature, which is
    `run` itself. Results are in each one's results.json.
    """
    rows = []
    for tau in temperatures:
        below, below_config = run, config
        if (tau, "dream") != (config.temperature, config.env):
            below = run / f"temperature-{tau:g}"
            given = {"temperature": tau, "env": "dream", "generations": config.generations}
            below_config = mpi.on_leader(comm, folder.prepare, below, given, run)
            mpi.on_leader(comm, folder.same_models, run, below)
        evolve(comm, below, below_config)
        for env in ("dream", "real"):
            there = scoring.configured(below_config, env=env)
            rows.append(scoring.evaluate(comm, below, there, episodes, video=False))
    if comm.rank == 0:
        print(scoring.table(rows))


def score_mean(comm, lanes, config: configs.Config, evolution, generation: int) -> None:
    """Scores the distribution's mean on fresh episodes; every scoring has seeds of its own."""
    started = time.monotonic()
    mean = comm.bcast(np.round(evolution.es.best(), DECIMALS) if comm.rank == 0 else None)
    count = config.eval_episodes
    plan = seeds.episode_seeds(config.seed, "select", generation * count, count)
    returns, _ = mpi.evaluate(comm, lanes, np.repeat(mean[None], count, axis=0), plan)
    if comm.rank == 0:
        evolution.scored(mean, returns, time.monotonic() - started)


def best_of(evolution: Evolution) -> str:
    return f"{evolution.best['score']:.1f}" if evolution.best else "-"
