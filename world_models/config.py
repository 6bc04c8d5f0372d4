"""The configuration of a run, and its presets.

A `Config` is frozen and flat: one run has one, kept in `DIR/config.json` (runs/run_dir.py). Scripts take its fields
as flags when the run is new; later stages read the file, and a flag that contradicts it is an error.
What a task changes in it, and which of its values make no sense for a task, is part of the task (tasks/task.py).
"""

import dataclasses
import itertools
from dataclasses import dataclass, field

FEATURES = ("z", "z_hidden", "zh", "zc", "zch")
DREAM_ENDS = ("cutoff", "draw")
DREAM_STARTS = ("first", "any")
UNTRAINED = ("none", "rnn", "vae", "vae+rnn")
DTYPES = ("float32", "bfloat16")
Z = ("sampled", "mean")
TRACKS = ("uniform", "replay")
OPTIMIZERS = {
    "cma": "CMA-ES",
    "cma-diagonal": "CMA-ES with a diagonal covariance",
    "cma-tpa": "CMA-ES with two-point step-size adaptation",
    "cma-cmean": "CMA-ES whose mean moves half as far a generation",
    "openai-es": "OpenAI's evolution strategy with Adam",
    "ga": "a genetic algorithm",
}
HEADS = ("none", "end", "reward", "end+reward")

# What a preset changes for every task; each task adds its own changes.
PRESETS = {
    "paper": {},
    # An evening on two cores. Fewer random episodes, and a search that spends its episodes late: early, what counts is
    # generations, and one episode ranks a generation's candidates if all play the same one; later, noise counts
    # (docs/search.md).
    "laptop": dict(
        episodes=1050,
        vae_epochs=1,
        rnn_steps=300,
        population=48,
        rollouts="1,15:2,30:4,50:8",
        seeds="common",
        generations=60,
        eval_every=10,
        eval_episodes=64,
        lanes=48,
    ),
    # Minutes: every stage real, none long enough to be good.
    "smoke": dict(
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
    ),
}


class UserError(Exception):
    """An error that the user can correct; the message says what, what was expected, what was found, what to run."""


def option(default, text: str, group: str, choices: tuple[str, ...] | None = None):
    """A field of Config with the help of its flag and the heading it stands under.

    Fields under "before" have no flag: `--after` sets them.
    """
    return field(default=default, metadata={"help": text, "group": group, "choices": choices})


@dataclass(frozen=True)
class Config:
    """All settings of a run. The defaults are the paper's for CarRacing; sources in brackets name the paper's
    section or the file of the original release."""

    task: str = option(dataclasses.MISSING, "the task", "run")
    preset: str = option("paper", "which published or scaled configuration the rest starts from", "run", tuple(PRESETS))
    seed: int = option(0, "the one seed all randomness of the run is split from", "run")

    view: str = option("v0", "the camera, where a task has several", "environment")
    pixels: str = option(
        "paper", "paper: crop and resize; release: also its contrast stretch", "environment", ("paper", "release")
    )
    drawer: str = option(
        "raster",
        "raster: compiled drawing; gymnasium: the slow reference it is tested against",
        "environment",
        ("raster", "gymnasium"),
    )
    max_frames: int = option(1000, "steps after which an episode is cut", "environment")  # [A.4]

    episodes: int = option(
        10_000,
        "new episodes to record: the random policy's in the first round, later the agent's but for --random; 0, in a "
        "later round: V and M stay as they are, and C goes on",
        "data",
    )  # [A.4, extract.bash]
    policy: str = option(
        "release",
        "data-collection policy. release: the original release's random policy; smooth: one that reaches more of the "
        "game (a car mostly stays on the field, a player in a room reaches its walls)",
        "data",
    )
    min_frames: int = option(
        0, "recorded episodes that are not longer are thrown away", "data"
    )  # [doomrnn/extract.py: 100]

    round: int = option(1, "number of the round in the iterative procedure", "before")  # [5]
    linked: int = option(0, "recorded episodes linked from the run of the round before", "before")
    spread: float = option(
        1.0, "agents that record: standard deviations of the search's distribution around its mean", "round"
    )
    noisy: float = option(0.3, "share of an agent's recorded episodes with noise on C's outputs", "round")
    action_noise: float = option(0.3, "standard deviation of that noise", "round")
    curious: float = option(
        0.0, "share of an agent's recorded episodes that the agent evolved for M's surprise plays", "round"
    )
    random: float = option(
        0.0,
        "share of a round's recorded episodes that the random policy plays, as it does all of the first round",
        "round",
    )
    new_share: float = option(0.5, "share of new episodes' frames in the training data of V and M", "round")

    z_size: int = option(32, "dimensions of z", "V")  # [A.1]
    vae_epochs: int = option(10, "passes over the recorded frames; the paper says 1", "V")  # [vae_train.py]
    vae_batch: int = option(100, "frames a step", "V")  # [vae_train.py]
    vae_rate: float = option(1e-4, "Adam's learning rate", "V")  # [vae_train.py]
    vae_bias: str = option(
        "zero",
        "the bias of V's last layer before training. zero: as released; mean: V begins with the mean colour of the "
        "recorded frames. From zero it first draws a plain background fully white or black, where its sigmoid has no "
        "gradient left to draw anything on it",
        "V",
        ("zero", "mean"),
    )
    vae_weight: float = option(
        1.0,
        "weight of V's error on pixels that matter (road and car against grass; fireballs and monsters against walls), "
        "of which extract then records a mask",
        "V",
    )
    kl_tolerance: float = option(0.5, "the KL's floor, in nats a dimension of z", "V")  # [vae.py]

    rnn_units: int = option(256, "LSTM units", "M")  # [A.2]
    mixtures: int = option(5, "Gaussians a dimension of z", "M")  # [A.2]
    mirror: str = option("no", "M also learns from every episode's mirror image, left for right", "M", ("no", "yes"))
    rnn_steps: int = option(4000, "training steps", "M")  # [rnn_train.py]
    rnn_batch: int = option(100, "sequences a step", "M")  # [rnn_train.py]
    rnn_length: int = option(999, "time steps of a sequence", "M")  # [rnn_train.py: max_seq_len 1000]
    rnn_rate: float = option(1e-3, "Adam's learning rate at the start", "M")  # [rnn.py]
    rnn_rate_end: float = option(1e-3, "and the one it falls to", "M")  # [doomrnn/rnn.py: 1e-5]
    rnn_rate_decay: float = option(1.0, "the factor by which it falls a step", "M")  # [doomrnn/rnn.py: 0.99999]
    heads: str = option(
        "none", "what M predicts beside z: the end of the episode, the step's reward, or both", "M", HEADS
    )  # [5: r and d]
    restart_weight: float = option(
        10.0, "weight, in the end head's loss, of frames with which an episode ends", "M"
    )  # [doomrnn/rnn.py]
    optimism_weight: float = option(
        2.0, "weight, in the reward head's loss, of rewards predicted too high, which C in a dream exploits", "M"
    )
    initial_frames: int = option(1000, "first frames kept as starting points of dreams", "M")  # [init_z.py]
    untrained: str = option(
        "none", "leave V, M or both at their random first weights (a baseline of later papers)", "M", UNTRAINED
    )

    env: str = option("real", "where C is evolved: in the real environment, or in M's dream", "C", ("real", "dream"))
    temperature: float = option(1.0, "the dream's temperature tau", "C")  # [4: 1.15 is the paper's best]
    dream_starts: str = option(
        "first",
        "where dreams start: at recorded first frames, or at any frame, with M's state there",
        "C",
        DREAM_STARTS,
    )
    dream_frames: int = option(0, "steps after which a dream is cut; 0: as in the game", "C")
    dream_end: str = option(
        "cutoff",
        "when a dream ends. cutoff: as released, where M's logit of the end is above 0; draw: as often as M expects an "
        "end, so that an agent gains nothing by risks below the cut-off",
        "C",
        DREAM_ENDS,
    )
    z: str = option(
        "sampled",
        "what C and M receive of a frame when C acts. sampled: z drawn from N(mu, exp(logvar)), as released, which "
        "adds noise where V leaves dimensions of z unused; mean: mu",
        "C",
        Z,
    )  # [carracing/model.py: encode_obs]
    features: str = option("zh", "what C sees: z, z through 40 hidden units, [z,h], [z,c], [z,c,h]", "C", FEATURES)
    optimizer: str = option(
        "cma",
        f"the search: {', '.join(f'{name}: {what}' for name, what in OPTIMIZERS.items())}",
        "C",
        tuple(OPTIMIZERS),
    )  # [A.4: CMA-ES]
    population: int = option(64, "candidates a generation", "C")  # [A.4]
    rollouts: str = option(
        "16", "episodes a candidate; '4,20:8,50:16' means 4, from generation 20 on 8, from 50 on 16", "C"
    )  # [A.4]
    seeds: str = option(
        "pairs",
        "pairs: candidates i and i + half share their episodes' seeds, as released; common: all share them",
        "C",
        ("pairs", "common"),
    )  # [train.py: antithetic]
    tracks: str = option(
        "uniform",
        "seeds of training episodes. uniform: always new ones; replay: half of each generation's come from earlier "
        "generations, drawn from those on which the population lost most (prioritised level replay, arXiv 2010.03934)",
        "C",
        TRACKS,
    )
    restart: str = option(
        "no",
        "where a later round's C begins. no: at the agent of the round before; yes: at zero; curious: at the agent "
        "that was evolved there for M's surprise, which has been where the other has not",
        "C",
        ("no", "yes", "curious"),
    )
    patience: int = option(
        0,
        "end a training episode after so many frames without reward, its return as if the agent stood still from there "
        "to the end; 0: never. Tests and evaluations of the mean are always played to the end",
        "C",
    )
    generations: int = option(1800, "generations of the search", "C")  # [A.4, curves]
    sigma: float = option(0.1, "the search's first step size", "C")  # [train.py]
    weight_bonus: float = option(
        0.0, "added to a candidate's score, times its mean squared weight; the release has 0.01", "C"
    )  # [es.py: compute_weight_decay, whose sign rewards large weights]
    eval_every: int = option(25, "generations between scorings of the distribution's mean", "C")  # [train.py]
    eval_episodes: int = option(1024, "episodes of such a scoring", "C")  # [train.py]
    average: int = option(
        0,
        "generations whose means are averaged into a second agent, which is scored beside the mean; 0: none",
        "C",
    )
    lanes: int = option(16, "episodes a rank advances at once; in a dream, dreamed at once", "C")
    dtype: str = option(
        "float32",
        "arithmetic of V's encoder while C acts in training; auto: bfloat16 where it is measured to be faster",
        "C",
        (*DTYPES, "auto"),
    )

    @property
    def total_episodes(self) -> int:
        """Recorded episodes V and M are trained on: those of the rounds before, then this run's own."""
        return self.linked + self.episodes

    @property
    def models_stay(self) -> bool:
        """Whether V and M are those of the round before, since nothing new is recorded."""
        return self.episodes == 0

    @property
    def needs_curious(self) -> bool:
        """Whether a later round needs an agent that was evolved for M's surprise in the one before."""
        return self.curious > 0 or self.restart == "curious"

    @property
    def rnn_heads(self) -> tuple[str, ...]:
        """M's heads beside the mixture's."""
        return () if self.heads == "none" else tuple(self.heads.split("+"))

    @property
    def dream_limit(self) -> int:
        """Steps after which a dream is cut."""
        return self.dream_frames or self.max_frames


def schedule_of(rollouts: str) -> list[tuple[int, int]]:
    """'4,20:8,50:16' -> [(0, 4), (20, 8), (50, 16)]: from which generation on how many episodes a candidate.

    UserError if it is not that: counts of 1 or more, from generations that ascend.
    """
    steps = []
    for part in rollouts.split(","):
        start, colon, count = part.rpartition(":")
        if (
            max(len(start), len(count)) > 9
            or not count.isdecimal()
            or int(count) < 1
            or (colon and not start.isdecimal())
        ):
            raise UserError(f"--rollouts: expected a count or a schedule like '4,20:8', got {rollouts!r}")
        steps.append((int(start or 0), int(count)))
    starts = [start for start, _ in steps]
    if starts[0] > 1 or any(later <= start for start, later in itertools.pairwise(starts)):
        raise UserError(f"--rollouts: expected a count, then generations that ascend as in '4,20:8', got {rollouts!r}")
    return steps


def rollouts_at(rollouts: str, generation: int) -> int:
    """Episodes a candidate in `generation` (from 1), under a schedule such as '4,20:8,50:16'."""
    return next(count for start, count in reversed(schedule_of(rollouts)) if generation >= start)


def fields_of(*groups: str) -> list[str]:
    """Names of the fields that stand under these headings."""
    return [item.name for item in dataclasses.fields(Config) if item.metadata["group"] in groups]


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")
