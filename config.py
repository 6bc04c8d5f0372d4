"""The tasks and their presets.

A `Config` is frozen and flat: one run has one, kept in `DIR/config.json` (see folder.py). Scripts take its
fields as flags when the run is new; later stages read the file, and a flag that contradicts it is an error.
"""

import dataclasses
import math
from dataclasses import dataclass, field

TASKS = ("carracing", "doom")
PRESETS = ("paper", "laptop", "smoke")
FEATURES = ("z", "z_hidden", "zh", "zc", "zch")
UNTRAINED = ("none", "rnn", "vae", "vae+rnn")
DTYPES = ("float32", "bfloat16")
OPTIMIZERS = {
    "cma": "CMA-ES",
    "cma-diagonal": "CMA-ES with a diagonal covariance",
    "cma-tpa": "CMA-ES with two-point step-size adaptation",
    "openai-es": "OpenAI's evolution strategy with Adam",
    "ga": "a genetic algorithm",
}
# An action's numbers are steer, gas, brake; or left-right. What left for right makes of each:
MIRRORED = {"carracing": (-1.0, 1.0, 1.0), "doom": (-1.0,)}

# What a frame earns in which the agent stands still, where that is not a reward. In Doom it is one.
IDLE_REWARD = {"carracing": -0.1}


class UserError(Exception):
    """A mistake that the user can mend; the message says what, what was expected, what came, what to run."""


def knob(default, text: str, group: str, choices: tuple[str, ...] | None = None):
    """A field of Config with the help of its flag and the heading it stands under."""
    return field(default=default, metadata={"help": text, "group": group, "choices": choices})


@dataclass(frozen=True)
class Config:
    """Everything that makes a run what it is. The defaults are the paper's CarRacing; sources in brackets
    name the paper's section or the file of the original release."""

    task: str = knob("carracing", "what is learnt", "run", TASKS)
    preset: str = knob("paper", "which published or scaled configuration the rest starts from", "run", PRESETS)
    seed: int = knob(0, "the one seed all randomness of the run is split from", "run")

    view: str = knob("v0", "CarRacing's camera: published v0, or Gymnasium's v3", "environment", ("v0", "v3"))
    pixels: str = knob(
        "paper", "paper: crop and resize; release: also its contrast stretch", "environment", ("paper", "release")
    )
    drawer: str = knob(
        "raster",
        "raster: compiled drawing; gymnasium: the slow reference it is tested against",
        "environment",
        ("raster", "gymnasium"),
    )
    max_frames: int = knob(1000, "steps after which an episode is cut", "environment")  # [A.4]

    episodes: int = knob(10_000, "random episodes to record", "data")  # [A.4, extract.bash]
    policy: str = knob(
        "release",
        "who plays them: the release's random policy, or a smoother one, which mostly stays on CarRacing's field, and "
        "strafes as far as Doom's walls",
        "data",
        ("release", "smooth"),
    )
    min_frames: int = knob(
        0, "recorded episodes that are not longer are thrown away", "data"
    )  # [doomrnn/extract.py: 100]

    z_size: int = knob(32, "dimensions of z", "V")  # [A.1]
    vae_epochs: int = knob(10, "passes over the recorded frames; the paper says 1", "V")  # [vae_train.py]
    vae_batch: int = knob(100, "frames a step", "V")  # [vae_train.py]
    vae_rate: float = knob(1e-4, "Adam's learning rate", "V")  # [vae_train.py]
    kl_tolerance: float = knob(0.5, "the KL's floor, in nats a dimension of z", "V")  # [vae.py]

    rnn_units: int = knob(256, "LSTM units", "M")  # [A.2]
    mixtures: int = knob(5, "Gaussians a dimension of z", "M")  # [A.2]
    mirror: str = knob("no", "M also learns from every episode's mirror image, left for right", "M", ("no", "yes"))
    rnn_steps: int = knob(4000, "training steps", "M")  # [rnn_train.py]
    rnn_batch: int = knob(100, "sequences a step", "M")  # [rnn_train.py]
    rnn_length: int = knob(999, "time steps of a sequence", "M")  # [rnn_train.py: max_seq_len 1000]
    rnn_rate: float = knob(1e-3, "Adam's learning rate at the start", "M")  # [rnn.py]
    rnn_rate_end: float = knob(1e-3, "and the one it falls to", "M")  # [doomrnn/rnn.py: 1e-5]
    rnn_rate_decay: float = knob(1.0, "the factor by which it falls a step", "M")  # [doomrnn/rnn.py: 0.99999]
    restart_weight: float = knob(10.0, "weight of the frames in which Doom's agent dies", "M")  # [doomrnn/rnn.py]
    initial_frames: int = knob(1000, "first frames kept as starting points of dreams", "M")  # [init_z.py]
    untrained: str = knob(
        "none", "leave V, M or both at their random first weights (a baseline of later papers)", "M", UNTRAINED
    )

    env: str = knob("real", "where C is evolved: in the game, or in M's dream of it", "C", ("real", "dream"))
    temperature: float = knob(1.0, "the dream's temperature tau", "C")  # [4: 1.15 is the paper's best]
    features: str = knob("zh", "what C sees: z, z through 40 hidden units, [z,h], [z,c], [z,c,h]", "C", FEATURES)
    optimizer: str = knob(
        "cma",
        f"the search: {', '.join(f'{name}: {what}' for name, what in OPTIMIZERS.items())}",
        "C",
        tuple(OPTIMIZERS),
    )  # [A.4: CMA-ES]
    population: int = knob(64, "candidates a generation", "C")  # [A.4]
    rollouts: str = knob(
        "16", "episodes a candidate; '4,20:8,50:16' means 4, from generation 20 on 8, from 50 on 16", "C"
    )  # [A.4]
    seeds: str = knob(
        "pairs",
        "pairs: candidates i and i + half share their episodes' seeds, as released; common: all share them",
        "C",
        ("pairs", "common"),
    )  # [train.py: antithetic]
    patience: int = knob(
        0,
        "end a training episode after so many frames without reward, its return as if the car stood still from there "
        "to the end; 0: never. Tests and scorings of the mean always go on to the end",
        "C",
    )
    generations: int = knob(1800, "generations of the search", "C")  # [A.4, curves]
    sigma: float = knob(0.1, "the search's first step size", "C")  # [train.py]
    weight_bonus: float = knob(
        0.0, "added to a candidate's score, times its mean squared weight; the release has 0.01", "C"
    )  # [es.py: compute_weight_decay, whose sign rewards large weights]
    eval_every: int = knob(25, "generations between scorings of the distribution's mean", "C")  # [train.py]
    eval_episodes: int = knob(1024, "episodes of such a scoring", "C")  # [train.py]
    lanes: int = knob(16, "episodes a rank advances at once; in a dream, dreamed at once", "C")
    dtype: str = knob(
        "float32",
        "arithmetic of V's encoder while C acts in training; auto: bfloat16 where it is measured to be faster",
        "C",
        (*DTYPES, "auto"),
    )


# What Doom changes [doomrnn/*.py]; the rest is as in CarRacing.
DOOM = dict(
    max_frames=2100,
    min_frames=100,
    z_size=64,
    rnn_units=512,
    rnn_steps=24_400,
    rnn_length=500,
    rnn_rate_end=1e-5,
    rnn_rate_decay=0.99999,
    env="dream",
    temperature=1.15,
    features="zch",
    lanes=128,
)

# An evening on two cores. Fewer random episodes, several passes where data is cheap to reuse, and a search
# that spends its episodes late: early generations differ so much that four episodes tell them apart, if all
# candidates drive the same tracks.
LAPTOP = dict(
    episodes=1050,
    policy="smooth",
    vae_epochs=1,
    rnn_steps=300,
    population=48,
    rollouts="4,40:8",
    seeds="common",
    generations=60,
    eval_every=10,
    eval_episodes=64,
    lanes=48,
)
# Doom's M learns from pieces a fifth as long: the state is carried from piece to piece as before, a step costs a fifth,
# and in so few steps it is their number that counts. For the same reason its learning rate falls seventy times faster.
# It must see deaths coming that it has not learnt by heart (doom_rnn/foresight.py): hence a policy that strafes as far
# as the walls, where agents go, and mirror images, which are as good as new episodes.
LAPTOP_DOOM = dict(
    episodes=3000,
    mirror="yes",
    rnn_steps=2700,
    rnn_length=100,
    rnn_rate_decay=0.9993,
    rollouts="16",
    population=64,
    generations=20,
    eval_every=5,
    eval_episodes=128,
)

# Minutes: every stage real, none long enough to be good.
SMOKE = dict(
    episodes=12,
    max_frames=300,
    vae_epochs=4,
    rnn_steps=20,
    rnn_batch=8,
    rnn_length=150,
    initial_frames=12,
    population=8,
    rollouts="2",
    seeds="common",
    generations=4,
    eval_every=2,
    eval_episodes=4,
    lanes=8,
)
SMOKE_DOOM = dict(episodes=24, max_frames=2100, rnn_steps=40, rnn_length=100, population=16, lanes=16)


def preset(task: str, name: str) -> Config:
    """The configuration of a task under a preset's name; UserError if either is unknown."""
    for flag, value, known in (("task", task, TASKS), ("preset", name, PRESETS)):
        if value not in known:
            raise UserError(f"unknown {flag} {value!r}: expected one of {', '.join(known)}")
    values = dict(DOOM) if task == "doom" else {}
    values |= {"paper": {}, "laptop": LAPTOP, "smoke": SMOKE}[name]
    if task == "doom":
        values |= {"paper": {}, "laptop": LAPTOP_DOOM, "smoke": SMOKE_DOOM}[name]
    return Config(task=task, preset=name, **values)


def action_size(task: str) -> int:
    """Numbers in an action."""
    return len(MIRRORED[task])


def rollouts_at(schedule: str, generation: int) -> int:
    """Episodes a candidate in `generation` (from 1), under a schedule such as '4,20:8,50:16'."""
    episodes = 0
    for part in schedule.split(","):
        start, _, count = part.rpartition(":")
        if generation >= int(start or 0):
            episodes = int(count)
    return episodes


def check(config: Config) -> Config:
    """Returns `config`, or raises UserError naming the field that makes no sense."""
    for item in dataclasses.fields(config):
        value, choices = getattr(config, item.name), item.metadata["choices"]
        if choices and value not in choices:
            raise UserError(f"{flag(item.name)}: expected one of {', '.join(choices)}, got {value!r}")
        low = 0 if item.name in ("seed", "min_frames", "patience") else 1
        if item.type is int and value < low:
            raise UserError(f"{flag(item.name)}: expected {low} or more, got {value}")
    try:
        valid = rollouts_at(config.rollouts, 1) >= 1
        valid &= all(rollouts_at(config.rollouts, g) >= 1 for g in range(1, config.generations + 1))
    except ValueError:
        valid = False
    if not valid:
        raise UserError(f"--rollouts: expected a count or a schedule like '4,20:8', got {config.rollouts!r}")
    for name in ("temperature", "sigma", "vae_rate", "rnn_rate"):
        if not 0 < getattr(config, name) < math.inf:
            raise UserError(f"{flag(name)}: expected a number above 0, got {getattr(config, name)}")
    if config.task == "doom" and config.max_frames > DOOM["max_frames"]:
        raise UserError(f"--max-frames: Take Cover ends after {DOOM['max_frames']} steps, got {config.max_frames}")
    if config.patience and (config.task not in IDLE_REWARD or config.env == "dream"):
        raise UserError(
            f"--patience: {config.task} rewards every frame until the end, so none is without; leave it out"
        )
    if config.population < 4 or config.population % 2:
        raise UserError(f"--population: expected an even number of 4 or more, got {config.population}")
    if config.env == "dream" and config.task == "carracing":
        raise UserError("--env dream: CarRacing's dream has no reward, so nothing can be evolved in it; use real")
    return config


def fields_of(*groups: str) -> list[str]:
    """Names of the fields that stand under these headings."""
    return [item.name for item in dataclasses.fields(Config) if item.metadata["group"] in groups]


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")
