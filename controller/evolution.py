"""The evolution of C: what train_controller.py does."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from controller import checkpoint, rollout
from controller.policy import Controller
from controller.rollout import Lanes, Watcher
from controller.search import make_search
from controller.watchers import Bar, Surprise
from world_models import command_line, mpi, seeds
from world_models.config import Config, UserError, rollouts_at
from world_models.runs import files
from world_models.runs.agent import read_best
from world_models.runs.artifacts import SEARCHES
from world_models.runs.run import Run
from world_models.tracking import Curves
from world_models.tracks import ROUND, Tracks

DECIMALS = 4  # to which an agent is rounded before it is scored (train.py of the release)
KEPT = ("history", "best", "seconds", "means")  # in a checkpoint, in addition to the search and its tracks


class Evolution:
    """The state of the evolution, on rank 0, and its files in controller/ or, for the agent that seeks M's surprise, in
    curious/.

    Attributes:
        search: the search.
        history: a line for each generation, as in history.jsonl.
        best: the kept agent, as in best.json; None before the first evaluation.
        seconds: the time that the search has taken.
        means: the means of the last `config.average` generations.
        tracks: which episodes the candidates play.
    """

    def __init__(self, run: Run, size: int, objective: str = "return"):
        self.run, self.config, self.folder = run, run.config, SEARCHES[objective]
        config, start = self.config, None
        # The last round's surprises are known to this round's M: the search for surprise begins at zero.
        if config.round > 1 and config.search_start != "zero" and objective == "return":
            goal = "surprise" if config.search_start == "curious" else "return"
            start = np.array(read_best(run.before, size, goal)["parameters"])
        rng = seeds.generator(config.seed, "evolution", *[config.round] * (config.round > 1))
        self.search = make_search(config, size, rng, start)
        self.history: list[dict] = []
        self.best: dict | None = None
        self.seconds = 0.0
        self.means: list[list[float]] = []
        self.tracks = Tracks(config)
        if run.is_current(f"{self.folder}/checkpoint.npz"):
            self._resume(run / f"{self.folder}/checkpoint.npz", size)
        elif run.is_current(f"{self.folder}/best.json"):
            raise UserError(
                f"{run}/{self.folder}/best.json has no checkpoint.npz to resume from; evolve it further with: "
                f"train_controller.py --run NEW --after {run} --episodes 0, or another agent with: --from {run}"
            )
        if len(self.history) < config.generations:
            state = sum(array.nbytes for array in self.search.state().values())
            # The old checkpoint stays until the new one is complete.
            files.require_room(run / f"{self.folder}/checkpoint.npz", state, times=2)

    def _resume(self, path: Path, size: int) -> None:
        """Reads what `save` has written. UserError if it is anything else."""
        extra = checkpoint.restore(self.search, path, lambda extra: checkpoint.require_history(extra, size))
        self.history, self.best, self.seconds, self.means = (extra[name] for name in KEPT)
        self.tracks = Tracks(self.config, {int(seed): lost for seed, lost in extra["tracks"].items()})
        self.publish()  # the search may have been killed after its last checkpoint

    def agents(self) -> dict[str, np.ndarray]:
        """The agents to score, (P,) each: the distribution's mean and, with `average`, the mean of the last means."""
        found = {"mean": self.search.best()}
        if len(self.means) > 1:
            found["average"] = np.mean(self.means, axis=0)
        return {name: np.round(agent, DECIMALS) for name, agent in found.items()}

    def learn(self, candidates: np.ndarray, plan: np.ndarray, returns: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Tells the search what a generation has scored; returns each candidate's fitness (N,).

        Args:
            candidates: (N, P).
            plan, returns: (N, E), the seed and the return of each of their episodes.
            steps: the lengths of these episodes.
        """
        config, fitness = self.config, returns.mean(axis=1)
        self.tracks.learn(plan, returns)
        self.search.tell(fitness + config.weight_bonus * np.mean(candidates**2, axis=1))
        if config.average:
            self.means = [*self.means, self.search.best().tolist()][-config.average :]
        line: dict = {"generation": len(self.history) + 1, "seconds": 0.0}
        line |= {name: float(getattr(fitness, name)()) for name in ("mean", "min", "max", "std")}
        line |= {"sigma": self.search.spread(), "mean_steps": float(np.mean(steps)), "evaluation": None}
        self.history.append(line)
        return fitness

    def evaluated(self, agents: dict[str, np.ndarray], returns: dict[str, np.ndarray]) -> None:
        """Adds the scores of `agents` to the last generation. The best agent of all is kept; of equal ones the later:
        where all dreams last to their limit, it is the one that has been evolved longer."""
        line, scores = self.history[-1], {}
        for name, found in returns.items():
            score, std, episodes = float(found.mean()), float(found.std()), len(found)
            scores[name] = {"mean": score, "std": std, "episodes": episodes}
            if self.best is None or score >= self.best["score"]:
                self.best = {"generation": line["generation"], "score": score, "std": std, "episodes": episodes}
                self.best["parameters"] = agents[name].tolist()
        line["evaluation"] = scores.pop("mean") | scores

    def save(self, seconds: float) -> None:
        """Writes the checkpoint, the history and the best agent after a generation that took `seconds`."""
        self.seconds += seconds
        self.history[-1]["seconds"] = round(self.seconds, 2)
        extra = {name: getattr(self, name) for name in KEPT} | {"tracks": self.tracks.loss}
        with self.run.write(f"{self.folder}/checkpoint.npz") as tmp:
            checkpoint.save(self.search, tmp, extra)
        self.publish()

    def publish(self) -> None:
        """Writes the history and the best agent, each if its file does not hold it yet. UserError if the file was
        modified."""
        texts = {"history.jsonl": "".join(json.dumps(line) + "\n" for line in self.history)}
        if self.best is not None:
            texts["best.json"] = json.dumps(self.best) + "\n"
        for name, text in texts.items():
            path = self.run / self.folder / name
            if not path.exists() or (files.read_text(path) != text and self.run.is_current(f"{self.folder}/{name}")):
                self.run.write_text(f"{self.folder}/{name}", text)


def is_evaluated(config: Config, generation: int) -> bool:
    return generation % config.eval_every == 0 or generation == config.generations


def episodes_of(config: Config, generation: int) -> int:
    """The episodes that a generation and its evaluation play."""
    agents = 2 if config.average and min(generation, config.average) > 1 else 1
    scored = agents * config.eval_episodes if is_evaluated(config, generation) else 0
    return config.population * rollouts_at(config.rollouts, generation) + scored


def evolve(comm: mpi.Comm, run: Run, objective: str = "return") -> None:
    """Evolves C from where the search stands to the last generation.

    Args:
        comm: the communicator of all ranks.
        run: the run.
        objective: "return", in `config.play_in`; or "surprise", M's in the real environment.
    """
    from controller.lanes import RealLanes, make_lanes  # here: TensorFlow must stay out of train_all

    config, curious = run.config, objective == "surprise"
    acting = dataclasses.replace(config, play_in="real") if curious else config
    options: dict[str, Any] = {"surprise": True} if curious else {}
    evolution = mpi.on_root(comm, Evolution, run, Controller.of(config).num_params, objective, share=False)
    lanes = mpi.on_all_ranks(comm, lambda: make_lanes(run, acting, **options))
    scoring: Lanes = lanes
    if config.dtype != "float32" and isinstance(lanes, RealLanes) and not curious:  # all scores are in float32
        precise, envs = dataclasses.replace(config, dtype="float32"), lanes.envs
        scoring = mpi.on_all_ranks(comm, lambda: make_lanes(run, precise, envs=envs))
    first = comm.bcast(len(evolution.history) + 1 if evolution else None)
    curves = Curves(run, SEARCHES[objective], first - 1) if evolution else None
    counts = [episodes_of(config, generation) for generation in range(1, config.generations + 1)]
    text = f"evolving C on {comm.size} rank{'s' * (comm.size > 1)}"
    bar = Bar(comm, sum(counts), text, sum(counts[: first - 1]))
    watchers: list[Watcher] = [*[Surprise(lanes.count)] * curious, bar]
    warned = False  # that all candidates are equal
    for generation in range(first, config.generations + 1):
        started = time.monotonic()
        bar.begin(f"{text}, generation {generation}/{config.generations}", counts[generation - 1])
        asked = (evolution.search.ask(), evolution.tracks.plan(generation)) if evolution else None
        candidates, plan = comm.bcast(asked)
        batch = np.repeat(candidates, plan.shape[1], axis=0)
        returns, steps = rollout.evaluate(comm, lanes, batch, plan.ravel().tolist(), watchers)
        if evolution:
            fitness = evolution.learn(candidates, plan, returns.reshape(plan.shape), steps)
            line = evolution.history[-1]
            if fitness.max() == fitness.min() and not warned:
                bar.tqdm.write(explain_equal_fitness(config, generation, line))
                warned = True
        if is_evaluated(config, generation):
            score_agents(comm, scoring, config, evolution, generation, watchers)
        if evolution and curves:
            evolution.save(time.monotonic() - started)
            curves.write(generation, points(line))
            score = f"{evolution.best['score']:.1f}" if evolution.best else "-"
            bar.finish(f"mean={line['mean']:.1f}, max={line['max']:.1f}, best={score}")
    bar.tqdm.close()
    lanes.close()
    if curves:
        curves.close()
    if evolution and (best := evolution.best):
        command_line.print_result(
            f"best agent: {best['score']:.1f} ± {best['std']:.1f} over {best['episodes']} held-out episodes, "
            f"generation {best['generation']}; {run}/{evolution.folder}/best.json"
        )


def points(line: dict) -> dict[str, float]:
    """What a generation adds to the learning curves."""
    found = {name: line[name] for name in checkpoint.NUMBERS if name != "seconds"}
    return found | {f"evaluation_{name}": line["evaluation"][name] for name in ("mean", "std") if line["evaluation"]}


def explain_equal_fitness(config: Config, generation: int, line: dict) -> str:
    """Why a generation whose candidates all scored the same teaches nothing."""
    text = f"generation {generation}: all candidates scored {line['mean']:.1f}, so the search learns nothing: "
    if config.play_in == "dream" and line["mean_steps"] >= config.dream_limit:
        text += f"every dream lasts its full {config.dream_limit} steps, since M predicts no end; "
        return text + "train M longer, or on more episodes"
    if line["mean_steps"] >= config.max_frames:
        return text + f"every episode lasts its full {config.max_frames} steps and pays the same"
    return text + "the actions of no candidate made a difference; try a larger --sigma, or more --rollouts"


def score_agents(
    comm: mpi.Comm, lanes: Lanes, config: Config, evolution: Evolution | None, generation: int, watchers: list
) -> None:
    """Evaluates the distribution's mean, and the average of the last means, on the same fresh episodes. Each evaluation
    has seeds of its own. Only rank 0 has an `evolution`."""
    agents = comm.bcast(evolution.agents() if evolution else None)
    count = config.eval_episodes
    plan = seeds.episode_seeds(config.seed, "select", ROUND * (config.round - 1) + generation * count, count)
    batch = np.repeat(np.stack([*agents.values()]), count, axis=0)
    returns, _ = rollout.evaluate(comm, lanes, batch, plan * len(agents), watchers)
    if evolution:
        evolution.evaluated(agents, dict(zip(agents, returns.reshape(len(agents), count), strict=True)))
