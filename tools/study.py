"""Compares settings of the search at equal episodes: each from the same V and M, with several seeds.

    mpirun -n 2 python -m tools.study --run pretrained/doom --out runs/study --episodes 6144 --temperature 1.3
    mpirun -n 2 python -m tools.study --run pretrained/carracing --out runs/study-car --settings 48x4,24x2

Every setting and seed is a run of its own, DIR/SETTING/seed-S: the same command again goes on where it stopped, with
more or fewer episodes, or other settings, beyond. Writes DIR/search.md, a table, DIR/search.png, the score of the
search's mean on fresh episodes over the episodes spent, and DIR/search.json, the numbers of both. All are made anew
after every run, from all that there are; of runs that are no longer there, search.json keeps the scores, and
DIR/study.json what they are scores of.
"""

import json
import math
from pathlib import Path

from controller.evolution import evolve
from tools.study_scores import at_end, by_setting, courses, points, write
from tools.study_settings import BASE, SETTINGS
from world_models import command_line, mpi, tasks
from world_models import config as configs
from world_models.runs import lock, run_dir, storage
from world_models.runs.integrity import digests, read_json
from world_models.training import quiet_tensorflow


def generations_for(setting: dict, episodes: int) -> int:
    """The generations that spend at most `episodes`, one at least."""
    generation, spent = 0, 0
    while True:
        spent += setting["population"] * configs.rollouts_at(setting["rollouts"], generation + 1)
        if spent > episodes and generation:
            return generation
        generation += 1
        if spent >= episodes:
            return generation


def valid(name: str, base: configs.Config) -> bool:
    """Whether a setting holds for what `base` is evolved in: some environments have no episodes to end early."""
    return not SETTINGS[name].get("patience") or (base.env == "real" and tasks.get(base.task).idle_reward is not None)


def overrides(name: str, seed: int, base: configs.Config, args) -> dict:
    """The fields in which a run of the study differs from the run that V and M are from."""
    setting = BASE | SETTINGS[name]
    generations = generations_for(setting, args.episodes)
    last = setting["population"] * configs.rollouts_at(setting["rollouts"], generations)  # the largest generation
    given = {
        "seed": seed,
        "generations": generations,
        "eval_every": max(1, round(args.every / last)),
        "eval_episodes": args.test_episodes,
    }
    if base.round > 1:
        given["restart"] = "yes"  # from zero, not from the agent of the round before
    given |= {name: value for name in ("temperature", "lanes") if (value := getattr(args, name)) is not None}
    return setting | given


def chosen(text: str | None, base: configs.Config) -> list[str]:
    """'48x4,24x2' -> names of settings, None -> all that hold for `base`; UserError for one that there is not, or that
    does not hold."""
    if text is None:
        return [name for name in SETTINGS if valid(name, base)]
    names = text.split(",")
    unknown = [name for name in names if name not in SETTINGS]
    if unknown:
        raise configs.UserError(f"--settings: expected some of {', '.join(SETTINGS)}, got {', '.join(unknown)}")
    for name in names:
        if not valid(name, base):
            raise configs.UserError(f"--settings {name}: nothing is known to be lost early in {base.task}, {base.env}")
    return names


# Beside V and M, what decides what a score is of; the settings of the search are in the names of the runs.
SCORED = ("env", "view", "pixels", "max_frames", "temperature", "dream_starts", "dream_frames", "dream_end", "features")


def require_same(out: Path, run: Path, base: configs.Config, args) -> None:
    """UserError if the scores in `out` are of another V or M, or of other episodes, than this study's would be."""
    made = digests(run, "vae", "rnn") | {name: getattr(base, name) for name in SCORED}
    made["test_episodes"] = args.test_episodes
    if base.dream_dropout:  # older studies do not say that theirs is 0
        made["dream_dropout"] = base.dream_dropout
    if args.temperature is not None:
        made["temperature"] = args.temperature
    path = out / "study.json"
    before = read_json(path) if path.exists() else made
    if before != made:
        known = before if isinstance(before, dict) else {}
        other = ", ".join(name for name in made if known.get(name) != made[name])
        raise configs.UserError(f"{out} holds a study of another {other}; choose another --out")
    storage.write_text(path, json.dumps(made, indent=1) + "\n")


def complete(out: Path, run: Path, episodes: int) -> bool:
    """Whether search.json has all scores of a run that is no longer there."""
    kept = courses(out).get(str(run.relative_to(out)))
    scored = points(kept) if kept else []
    return not run.exists() and bool(scored) and not math.isnan(at_end(scored, episodes))


def open_run(run: Path, given: dict, base: Path) -> configs.Config:
    """A run of the study; one that is there already keeps its generations if they are more, and is scored as often as
    before."""
    if (run / "config.json").exists():
        begun = run_dir.load(run)
        more = max(given["generations"], begun.generations)
        given |= {"generations": more, "eval_every": begun.eval_every}
    return run_dir.open_run(run, given, base)


def main(comm) -> None:
    parser = command_line.Parser(description=__doc__, quiet=comm.rank > 0)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run whose V and M are used")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the study's runs are")
    parser.add_argument("--settings", metavar="NAME,NAME", help="which (default: all that hold for the run)")
    parser.add_argument("--seeds", type=command_line.count, default=3, help="runs of each setting (default 3)")
    parser.add_argument(
        "--episodes", type=command_line.count, default=6144, help="training episodes of a run (default 6144)"
    )
    parser.add_argument(
        "--every", type=command_line.count, default=500, help="episodes between two scorings (default 500)"
    )
    parser.add_argument(
        "--test-episodes", type=command_line.count, default=64, help="episodes of a scoring (default 64)"
    )
    parser.add_argument("--temperature", type=float, help="of the dream (default: the run's)")
    parser.add_argument("--lanes", type=command_line.count, help="of a rank (default: the run's)")
    parser.add_argument("--mark", type=float, help="also say how many episodes it takes to this score")
    args = parser.parse_args()
    base = mpi.on_root(comm, run_dir.load, args.run)
    names = mpi.on_root(comm, chosen, args.settings, base)
    mpi.on_root(comm, run_dir.need_models, args.run)
    mpi.on_root(comm, require_same, args.out, args.run, base, args)
    quiet_tensorflow()
    for seed in range(args.seeds):
        for name in names:
            run = args.out / name / f"seed-{seed}"
            if mpi.on_root(comm, complete, args.out, run, args.episodes):
                continue
            with lock.hold(run, comm):
                config = mpi.on_root(comm, open_run, run, overrides(name, seed, base, args), args.run)
                if comm.rank == 0:
                    print(f"{name}, seed {seed}: {config.generations} generations", flush=True)
                evolve(comm, run, config)
            mpi.on_root(comm, write, args.out, args.episodes, args.mark)
    if comm.rank == 0:
        found = by_setting(args.out)
        print(json.dumps({name: [points(run)[-1] for run in runs] for name, runs in found.items()}))
        print(f"{args.out}/search.md, {args.out}/search.png")


if __name__ == "__main__":
    mpi.launch(main)
