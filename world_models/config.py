"""The settings of a run.

A `Config` is frozen and flat. A run has one, in DIR/config.json (runs/config_file.py). Scripts take its fields as flags
when a run is created; later stages read the file, and a flag that contradicts it is an error. A field's row is all
there is to a setting: default, help, group, choices, bounds, and the source of its default. What a preset or a task
changes is in presets.py and in the task (tasks/task.py).
"""

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

FEATURES = ("z", "z_hidden", "zh", "zc", "zch")
OPTIMIZERS = {
    "cma": "CMA-ES",
    "cma-diagonal": "CMA-ES with a diagonal covariance",
    "openai-es": "OpenAI's evolution strategy with Adam",
}
DTYPES = ("float32", "bfloat16")
HEADS = ("none", "end", "reward", "end+reward")
UNTRAINED = ("none", "rnn", "vae", "vae+rnn")
PRESETS = ("paper", "laptop", "smoke")
OUTPUTS = 1 << 28  # weights of M's output layer, 1 GiB: sizes that are each allowed may be too large together

# Bounds: the least value, the greatest value, and whether the least value itself is allowed.
POSITIVE, NOT_NEGATIVE, SHARE = (0, math.inf, False), (0, math.inf, True), (0, 1, True)
COUNT, COUNT_OR_0, BATCH = (1, 10**9, True), (0, 10**9, True), (1, 10**6, True)
DROPOUT = (0, 0.99, True)
SCHEDULE = re.compile(r"(\d{1,9}:)?[1-9]\d{0,8}(,\d{1,9}:[1-9]\d{0,8})*", re.ASCII)
KINDS: dict[Any, str] = {int: "an integer", float: "a number", str: "text"}


class UserError(Exception):
    """An error that the user can correct. Its one line says what is wrong, what was expected, what was found, and what
    to run."""


def option(
    default: Any,
    text: str,
    group: str,
    choices: tuple[str, ...] | None = None,
    bounds: tuple[float, float, bool] = (-math.inf, math.inf, True),
    source: str = "",
) -> Any:
    """A field of Config.

    `default` is its value in the paper's CarRacing, `text` the help of its flag, and `group` the heading of the flag in
    the help. Fields under "lineage" and "test" have no flag: `--after` and a test set them. `choices` are the values of
    a text, and `bounds` those of a number: least, greatest, and whether the least is allowed. `source` says where the
    default comes from: a section of the paper, or a file of the original release.
    """
    return dataclasses.field(
        default=default,
        metadata={"help": text, "group": group, "choices": choices, "bounds": bounds, "source": source},
    )


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    # fmt: off
    task: str = option(dataclasses.MISSING, "the task", "run")
    preset: str = option("paper", "the published or scaled settings that the rest starts from", "run", PRESETS)
    seed: int = option(0, "the seed from which all randomness of the run is derived", "run", bounds=NOT_NEGATIVE)

    view: str = option("v0", "the camera, if the task has several", "environment")
    pixels: str = option("paper", "paper: crop and resize. release: also its contrast stretch", "environment",
        ("paper", "release"))
    max_frames: int = option(1000, "the steps after which an episode is cut", "environment", bounds=COUNT, source="A.4")

    variant: str = option("plain", "what a test of generalisation changes in the picture", "test")

    episodes: int = option(10_000, "the number of new episodes to record. The random policy plays them in the first "
        "round, the agent in later rounds except for --random-share. 0, in a later round: V and M stay as they are, "
        "and C goes on", "data", bounds=COUNT_OR_0, source="A.4, extract.bash")
    policy: str = option("release", "the data-collection policy. release: the original release's random policy. "
        "smooth: a policy that reaches more of the game (a car mostly stays on the field, a player in a room reaches "
        "its walls)", "data")
    min_frames: int = option(0, "recorded episodes that are not longer are discarded", "data", bounds=COUNT_OR_0,
        source="doomrnn/extract.py")

    round: int = option(1, "the number of the round in the iterative procedure", "lineage", bounds=COUNT, source="5")
    linked_episodes: int = option(0, "the episodes that are linked from the round before", "lineage", bounds=COUNT_OR_0)
    spread: float = option(1.0, "agents that record are drawn from the search's distribution; its standard deviation "
        "is multiplied by this", "round", bounds=NOT_NEGATIVE)
    noisy_share: float = option(0.3, "the share of an agent's episodes with noise on C's outputs", "round",
        bounds=SHARE)
    action_noise: float = option(0.3, "the standard deviation of that noise", "round", bounds=NOT_NEGATIVE)
    curious_share: float = option(0.0, "the share of an agent's episodes played by the agent evolved for M's surprise",
        "round", bounds=SHARE)
    random_share: float = option(0.0, "the share of a later round's episodes that the random policy plays", "round",
        bounds=SHARE)
    new_share: float = option(0.5, "the share of new episodes' frames in the training data of V and M", "round",
        bounds=(0.01, 1, True))

    z_size: int = option(32, "dimensions of z", "V", bounds=(1, 1024, True), source="A.1")
    vae_epochs: int = option(10, "passes over the recorded frames; the paper says 1", "V", bounds=COUNT,
        source="vae_train.py")
    vae_batch: int = option(100, "frames in a step", "V", bounds=BATCH, source="vae_train.py")
    vae_rate: float = option(1e-4, "Adam's learning rate", "V", bounds=POSITIVE, source="vae_train.py")
    vae_bias: str = option("zero", "the bias of V's last layer before training. zero: as released; V may draw a plain "
        "background fully white or black, where its sigmoid has no gradient left. mean: the mean colour of the "
        "recorded frames", "V", ("zero", "mean"))
    kl_tolerance: float = option(0.5, "the KL's floor, in nats for each dimension of z", "V", bounds=NOT_NEGATIVE,
        source="vae.py")

    rnn_units: int = option(256, "LSTM units", "M", bounds=(1, 8192, True), source="A.2")
    mixtures: int = option(5, "Gaussians for each dimension of z", "M", bounds=(1, 1024, True), source="A.2")
    mirror: str = option("no", "M also learns from the mirror image of every episode", "M", ("no", "yes"))
    rnn_steps: int = option(4000, "training steps", "M", bounds=COUNT, source="rnn_train.py")
    rnn_batch: int = option(100, "sequences in a step", "M", bounds=BATCH, source="rnn_train.py")
    rnn_length: int = option(999, "time steps of a sequence", "M", bounds=BATCH,
        source="rnn_train.py: max_seq_len 1000")
    rnn_rate: float = option(1e-3, "Adam's first learning rate", "M", bounds=POSITIVE, source="rnn.py")
    rnn_rate_end: float = option(1e-3, "the learning rate to which it falls", "M", bounds=NOT_NEGATIVE,
        source="doomrnn/rnn.py: 1e-5")
    rnn_rate_decay: float = option(1.0, "the factor by which it falls in a step", "M", bounds=(0, 1, False),
        source="doomrnn/rnn.py: 0.99999")
    rnn_dropout: float = option(0.0, "dropout in M's training: the share of z and of h that each gate of the LSTM does "
        "not see, the same for all steps of a sequence; 0.05 for dreams with dropout", "M", bounds=DROPOUT,
        source="arXiv 2109.08342: 0.05")
    heads: str = option("none", "what M predicts next to z: the end of an episode, a step's reward", "M", HEADS,
        source="5")
    restart_weight: float = option(10.0, "the weight, in the end head's loss, of frames with which an episode ends",
        "M", bounds=POSITIVE, source="doomrnn/rnn.py")
    optimism_weight: float = option(2.0, "the weight of too high predictions, which C exploits, in the reward head's "
        "loss", "M", bounds=POSITIVE)
    initial_frames: int = option(1000, "the first frames that are kept as starting points of dreams", "M", bounds=COUNT,
        source="init_z.py")
    untrained: str = option("none", "what stays at its random first weights, as a baseline", "M", UNTRAINED)

    play_in: str = option("real", "where C is evolved: the real environment, or M's dream", "C", ("real", "dream"))
    temperature: float = option(1.0, "the dream's temperature tau", "C", bounds=(1e-30, math.inf, True),
        source="4: 1.15 is the paper's best")
    dream_dropout: float = option(0.0, "dropout in dreams: each dream draws which share of z and of h each gate of M's "
        "LSTM does not see in all its steps; 0.1 is recommended, for an M that was trained with --rnn-dropout", "C",
        bounds=DROPOUT, source="arXiv 2109.08342: 0.1")
    dream_frames: int = option(0, "the steps after which a dream is cut; 0: as in the game", "C", bounds=COUNT_OR_0)
    z: str = option("sampled", "what C and M receive of a frame when C acts. sampled: z drawn from N(mu, exp(logvar)), "
        "as released, which adds noise where V leaves dimensions of z unused. mean: mu", "C", ("sampled", "mean"),
        source="model.py: encode_obs")
    features: str = option("zh", "what C sees: z, z through 40 hidden units, [z,h], [z,c], [z,c,h]", "C", FEATURES)
    optimizer: str = option("cma", "the search: " + ", ".join(map(": ".join, OPTIMIZERS.items())), "C",
        tuple(OPTIMIZERS), source="A.4")
    population: int = option(64, "candidates in a generation", "C", bounds=(4, 10**6, True), source="A.4")
    rollouts: str = option("16", "episodes of a candidate; '4,20:8,50:16': 4, from generation 20 on 8, from 50 on 16",
        "C", source="A.4")
    seed_sharing: str = option("pairs", "pairs: candidates i and i + half share the seeds of their episodes, as "
        "released. common: all share them", "C", ("pairs", "common"), source="train.py: antithetic")
    tracks: str = option("uniform", "the seeds of training episodes. uniform: always new ones. replay: half of each "
        "generation's seeds come from earlier generations, from those on which the population lost most (prioritised "
        "level replay)", "C", ("uniform", "replay"), source="arXiv 2010.03934")
    search_start: str = option("previous", "where a later round's C begins. previous: at the agent of the round "
        "before. zero: at zero. curious: at the agent that was evolved there for M's surprise", "C",
        ("previous", "zero", "curious"))
    generations: int = option(1800, "generations of the search", "C", bounds=COUNT, source="A.4, curves")
    sigma: float = option(0.1, "the search's first step size", "C", bounds=POSITIVE, source="train.py")
    # The sign of the release's compute_weight_decay rewards large weights.
    weight_bonus: float = option(0.0, "added to a candidate's score, times its mean squared weight; the release has "
        "0.01", "C", source="es.py")
    eval_every: int = option(25, "generations between evaluations of the distribution's mean", "C", bounds=COUNT,
        source="train.py")
    eval_episodes: int = option(1024, "episodes of such an evaluation", "C", bounds=COUNT, source="train.py")
    average: int = option(0, "the generations whose means are averaged into a second agent; 0: no such agent", "C",
        bounds=COUNT_OR_0)
    lanes: int = option(16, "episodes that a rank plays at once, in lockstep", "C", bounds=BATCH)
    dtype: str = option("float32", "the arithmetic of V's encoder while C acts in training", "C", DTYPES)
    # fmt: on

    @property
    def total_episodes(self) -> int:
        """Recorded episodes that V and M learn from: those of the rounds before, then this run's own."""
        return self.linked_episodes + self.episodes

    @property
    def models_stay(self) -> bool:
        """Whether V and M are those of the round before, since nothing new is recorded."""
        return self.episodes == 0

    @property
    def needs_curious(self) -> bool:
        """Whether a later round needs an agent that was evolved for M's surprise in the one before."""
        return self.curious_share > 0 or self.search_start == "curious"

    @property
    def rnn_heads(self) -> tuple[str, ...]:
        """M's heads next to the mixture's."""
        return () if self.heads == "none" else tuple(self.heads.split("+"))

    @property
    def dream_limit(self) -> int:
        """The number of steps after which a dream is cut."""
        return self.dream_frames or self.max_frames


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def fields_of(*groups: str) -> list[str]:
    """The names of the fields under these headings."""
    return [item.name for item in dataclasses.fields(Config) if item.metadata["group"] in groups]


def check(config: Config) -> Config:
    """Returns `config`. UserError that names the field if a value fits no task."""
    for item in dataclasses.fields(config):
        check_value(item, getattr(config, item.name))
    schedule_of(config.rollouts)
    if config.models_stay and config.round == 1:
        raise UserError("--episodes: expected at least 1 in a first round, got 0")
    if 3 * config.z_size * config.mixtures * config.rnn_units > OUTPUTS:
        raise UserError(
            f"--z-size {config.z_size}, --mixtures {config.mixtures}, --rnn-units {config.rnn_units}: M's output layer "
            f"would have more than {OUTPUTS:,} weights; expected fewer"
        )
    if config.population % 2:
        raise UserError(f"--population: expected an even number, got {config.population}")
    return config


def check_value(item: dataclasses.Field, value: Any) -> None:
    """UserError unless `value` is of the type, among the choices and within the bounds of a field."""
    choices, (low, high, included) = item.metadata["choices"], item.metadata["bounds"]
    if type(value) is not item.type and (item.type, type(value)) != (float, int):
        raise UserError(f"{flag(item.name)}: expected {KINDS[item.type]}, got {value!r:.40}")
    if choices and value not in choices:
        raise UserError(f"{flag(item.name)}: expected one of {', '.join(choices)}, got {value!r}")
    if item.type is str:
        return
    fits = (low <= value if included else low < value) and value <= high
    if not fits or (item.type is float and not math.isfinite(value)):
        expected = f"{'at least' if included else 'more than'} {low:g}" if low > -math.inf else "a finite number"
        expected += f" and at most {high:g}" if high < math.inf else ""
        raise UserError(f"{flag(item.name)}: expected {expected}, got {value!r:.40}")


def schedule_of(rollouts: str) -> list[tuple[int, int]]:
    """'4,20:8,50:16' -> [(0, 4), (20, 8), (50, 16)]: the episodes of a candidate from each generation on.

    UserError unless the counts are 1 or more, and the generations ascend.
    """
    if SCHEDULE.fullmatch(rollouts):
        steps = [(int(start or 0), int(count)) for start, _, count in (p.rpartition(":") for p in rollouts.split(","))]
        starts = [start for start, _ in steps]
        if starts[0] <= 1 and starts == sorted(set(starts)):
            return steps
    expected = "a count or a schedule like '4,20:8', whose generations ascend"
    raise UserError(f"--rollouts: expected {expected}, got {rollouts!r:.40}")


def rollouts_at(rollouts: str, generation: int) -> int:
    """Episodes of a candidate in `generation` (from 1), under a schedule such as '4,20:8,50:16'."""
    return next(count for start, count in reversed(schedule_of(rollouts)) if generation >= start)
