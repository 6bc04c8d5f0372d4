"""The evolution of C: what train_controller.py does."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np

from controller.optimizers import make_optimizer
from controller.policy import Controller
from controller.tracks import ROUND, Tracks
from world_models import command_line, mpi, seeds
from world_models import config as configs
from world_models.progress import bar as progress_bar
from world_models.runs import integrity, run_dir, storage
from world_models.runs.agent_file import FOLDERS, origin, read_best
from world_models.tracking import Curves

DECIMALS = 4  # to which the mean is rounded before it is scored (train.py of the release)
NOTHING = "no generation was complete, the search begins anew"
FROM = ("vae", "rnn")  # what C is made from


class Evolution:
    """The state of the search, on rank 0: the optimizer, history, the best agent, and their files, in DIR/controller/
    or, for the agent that seeks M's surprise, in DIR/curious/.

    Attributes:
        dtype: the arithmetic in which the agents act, once that is chosen.
    """

    def __init__(self, run: Path, config: configs.Config, size: int, objective: str = "return"):
        self.config, self.path = config, run / FOLDERS[objective]
        self.made_from = integrity.digests(run, *FROM) | origin(config, objective)
        start = None
        # What was surprising to the last round's M is known to this one's: curiosity begins anew.
        if config.round > 1 and config.restart != "yes" and objective == "return":
            folder = FOLDERS["surprise" if config.restart == "curious" else "return"]
            start = np.array(read_best(run / run_dir.BEFORE / folder, size)["parameters"])
        rng = seeds.generator(config.seed, "evolution", *[config.round] * (config.round > 1))
        self.es = make_optimizer(config, size, rng, start)
        self.history: list[dict] = []
        self.best: dict | None = None
        self.seconds = 0.0
        self.dtype: str | None = None
        self.means: list[list[float]] = []  # of the last `config.average` generations
        self.tracks = Tracks(config)
        if (self.path / "checkpoint.npz").exists():
            settings = origin(config, objective)
            extra = self.es.restore(self.path / "checkpoint.npz", run, FROM, **settings)
            check_log(self.path / "checkpoint.npz", extra, size)
            self.history, self.best, self.seconds = extra["history"], extra["best"], extra["seconds"]
            self.dtype = extra.get("dtype")
            self.means = extra.get("means", [])
            self.tracks = Tracks(config, {int(seed): loss for seed, loss in extra.get("tracks", {}).items()})
            self.write_logs()  # in case it was killed before they were written
        elif (self.path / "best.json").exists():
            raise configs.UserError(
                f"{self.path}/best.json has no checkpoint.npz beside it to go on from; evolve it further with: "
                f"train_controller.py --run OTHER --after {run} --episodes 0, or another agent with: --from {run}"
            )

    def log_generation(self, fitness: np.ndarray, steps: np.ndarray, seconds: float) -> dict:
        """Adds a generation to the history; returns its line."""
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

    def agents(self) -> dict[str, np.ndarray]:
        """The agents to be scored, (P,) each: the distribution's mean, and with `average` that of the last means."""
        found = {"mean": self.es.best()}
        if len(self.means) > 1:
            found["average"] = np.mean(self.means, axis=0)
        return {name: np.round(agent, DECIMALS) for name, agent in found.items()}

    def log_evaluation(self, agents: dict[str, np.ndarray], returns: dict[str, np.ndarray], seconds: float) -> None:
        """Adds the scores of `agents` to the last generation; keeps the best agent of all, of equal ones the later:
        where all dreams last to their limit, what has been evolved longer."""
        self.seconds += seconds
        line = self.history[-1]
        line["seconds"] = round(self.seconds, 2)
        scores = {
            name: {"mean": float(of.mean()), "std": float(of.std()), "episodes": len(of)}
            for name, of in returns.items()
        }
        line["evaluation"] = scores["mean"] | {name: score for name, score in scores.items() if name != "mean"}
        for name, score in scores.items():
            if self.best is None or score["mean"] >= self.best["score"]:
                self.best = {
                    "generation": line["generation"],
                    "score": score["mean"],
                    "std": score["std"],
                    "episodes": score["episodes"],
                    "parameters": agents[name].tolist(),
                }

    def save(self) -> None:
        """Writes the checkpoint, then history and best agent, which are part of it."""
        extra = {"history": self.history, "best": self.best, "seconds": self.seconds, "dtype": self.dtype}
        extra |= {"made_from": self.made_from, "means": self.means, "tracks": self.tracks.loss}
        self.es.save(self.path / "checkpoint.npz", extra)
        self.write_logs()

    def write_logs(self) -> None:
        """Writes history.jsonl and best.json."""
        storage.write_text(self.path / "history.jsonl", "".join(json.dumps(line) + "\n" for line in self.history))
        if self.best is not None:
            best = integrity.sealed(self.best | {"made_from": self.made_from})
            storage.write_text(self.path / "best.json", json.dumps(best) + "\n")


def check_log(path: Path, extra: dict, size: int) -> None:
    """UserError unless what a checkpoint says of the search so far is what `Evolution` writes."""
    try:
        history, best = extra["history"], extra["best"]
        if [line["generation"] for line in history] != list(range(1, len(history) + 1)):
            raise ValueError("its history is not one of generations from the first on")
        numbers = [extra["seconds"], *(value for line in history for value in flat(line))]
        if best is not None:
            if len(best["parameters"]) != size:
                raise ValueError(f"an agent of {len(best['parameters'])} parameters, expected {size}")
            numbers += [*best["parameters"], best["score"], best["std"], best["generation"], best["episodes"]]
        if not all(type(value) in (int, float) and np.isfinite(value) for value in numbers):
            raise ValueError("a number that is none")
        if extra.get("dtype") not in (None, *configs.DTYPES):
            raise ValueError(f"arithmetic {extra['dtype']!r}")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise configs.UserError(
            f"{path} is not a checkpoint of this search: {error}; delete it to begin anew"
        ) from None


def flat(line: dict) -> list:
    """The values of a line of history, and of its evaluation."""
    names = ("generation", "seconds", "mean", "min", "max", "std", "sigma", "mean_steps")
    found = [line[name] for name in names]
    return found + ([line["evaluation"][name] for name in ("mean", "std", "episodes")] if line["evaluation"] else [])


def begin(run: Path, config: configs.Config, size: int, objective: str = "return") -> Evolution:
    """The search, begun or resumed; writes the run's configuration if its number of generations has grown. UserError if
    there is no room for its checkpoints."""
    evolution = Evolution(run, config, size, objective)
    if len(evolution.history) < config.generations:
        state, _ = evolution.es.state()
        # The old one stays until the new one is complete.
        storage.require_room(evolution.path / "checkpoint.npz", sum(array.nbytes for array in state.values()), times=2)
    if config != run_dir.load(run):
        run_dir.save(config, run)
    return evolution


def evolve(comm, run: Path, config: configs.Config, objective: str = "return") -> None:
    """Runs the search from where it stands to the last generation.

    Args:
        objective: "return", in `config.env`; or "surprise", M's in the real environment.
    """
    from controller import curiosity, rollout
    from controller.lanes import in_float32, make_lanes
    from controller.precision import choose_dtype

    make = make_lanes if objective == "return" else curiosity.make_lanes
    size = Controller.of(config).num_params
    root = comm.rank == 0
    evolution = mpi.on_root(comm, begin, run, config, size, objective, share=False)
    # Surprise is sought in the real environment, to the end: an episode without reward may be full of it.
    acting = config if objective == "return" else dataclasses.replace(config, env="real", patience=0)
    acting = dataclasses.replace(acting, dtype=choose_dtype(comm, run, acting, evolution.dtype if root else None))
    if root:
        evolution.dtype = acting.dtype
    lanes = mpi.on_all_ranks(comm, make, run, acting)
    scoring = mpi.on_all_ranks(comm, in_float32, lanes, run) if objective == "return" else lanes
    first = comm.bcast(len(evolution.history) + 1 if root else None)
    curves = Curves(run, FOLDERS[objective]) if root else None
    warned = False  # of candidates that are all equal
    bar = progress_bar(
        total=config.generations,
        initial=first - 1,
        desc=f"evolving C on {comm.size} rank{'s' * (comm.size > 1)}",
        unit="generation",
        disable=not root,
    )
    for generation in range(first, config.generations + 1):
        started = time.monotonic()
        candidates, plan = comm.bcast((evolution.es.ask(), evolution.tracks.plan(generation)) if root else None)
        saved = f"generation {generation - 1} is saved in {run / FOLDERS[objective]}" if generation > 1 else NOTHING
        batch, played = np.repeat(candidates, plan.shape[1], axis=0), plan.ravel().tolist()
        returns, steps = rollout.evaluate(comm, lanes, batch, played, saved=saved, patience=acting.patience)
        if root:
            returns = returns.reshape(plan.shape)
            evolution.tracks.learn(plan, returns)
            fitness = returns.mean(axis=1)
            bonus = config.weight_bonus * np.mean(candidates**2, axis=1)
            evolution.es.tell(fitness + bonus)
            if config.average:
                evolution.means = [*evolution.means, evolution.es.best().tolist()][-config.average :]
            line = evolution.log_generation(fitness, steps, time.monotonic() - started)
            if fitness.max() == fitness.min() and not warned:
                bar.write(nothing_to_learn(config, generation, line))
                warned = True
            bar.set_postfix(mean=f"{line['mean']:.1f}", max=f"{line['max']:.1f}", best=best_of(evolution))
        if generation % config.eval_every == 0 or generation == config.generations:
            score_mean(comm, scoring, config, evolution, generation, saved)
        if root:
            evolution.save()
            curves.write(generation, points(evolution.history[-1]))
            bar.update()
    bar.close()
    if root:
        curves.close()
    lanes.close()
    if root and evolution.best:
        best = evolution.best
        command_line.say(
            f"best mean: {best['score']:.1f} ± {best['std']:.1f} over {best['episodes']} episodes, "
            f"generation {best['generation']}; {evolution.path}/best.json"
        )


def points(line: dict) -> dict[str, float]:
    """What a generation adds to the learning curves."""
    found = {name: line[name] for name in ("mean", "min", "max", "std", "sigma", "mean_steps")}
    return found | {f"evaluation_{name}": line["evaluation"][name] for name in ("mean", "std") if line["evaluation"]}


def nothing_to_learn(config: configs.Config, generation: int, line: dict) -> str:
    """Why a generation whose candidates all scored the same teaches nothing, in words."""
    text = f"generation {generation}: all candidates equal ({line['mean']:.1f}): nothing to learn here, since "
    if config.env == "dream" and line["mean_steps"] >= config.dream_limit:
        text += f"every dream lasts its full {config.dream_limit} steps: M predicts no end; train M longer, or on more "
        return text + "episodes"
    if line["mean_steps"] >= config.max_frames:
        return text + f"every episode lasts its full {config.max_frames} steps and pays the same"
    return text + "no candidate's actions made a difference; try a greater --sigma, or more --rollouts"


def score_mean(comm, lanes, config: configs.Config, evolution, generation: int, saved: str) -> None:
    """Evaluates the distribution's mean on fresh episodes; every evaluation has seeds of its own. `saved` as of
    `rollout.evaluate`."""
    from controller import rollout

    started = time.monotonic()
    agents = comm.bcast(evolution.agents() if comm.rank == 0 else None)
    count = config.eval_episodes
    plan = seeds.episode_seeds(config.seed, "select", ROUND * (config.round - 1) + generation * count, count)
    batch = np.repeat(np.stack([*agents.values()]), count, axis=0)
    returns, _ = rollout.evaluate(comm, lanes, batch, plan * len(agents), saved=saved)
    if comm.rank == 0:
        scores = dict(zip(agents, returns.reshape(len(agents), count), strict=True))
        evolution.log_evaluation(agents, scores, time.monotonic() - started)


def best_of(evolution: Evolution) -> str:
    return f"{evolution.best['score']:.1f}" if evolution.best else "-"
