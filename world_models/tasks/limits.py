"""Which values a configuration's fields can have, whatever the task; what a task adds is in tasks/task.py."""

import dataclasses
import math

from world_models.config import Config, UserError, flag, schedule_of

KINDS = {int: "a whole number", float: "a number", str: "text"}
# Bounds of the numbers that are not whole: (least, greatest, whether the least is allowed).
BOUNDS = {
    **dict.fromkeys(("temperature", "sigma", "vae_rate", "rnn_rate", "vae_weight"), (0, math.inf, False)),
    **dict.fromkeys(("optimism_weight", "restart_weight"), (0, math.inf, False)),
    **dict.fromkeys(("kl_tolerance", "rnn_rate_end", "spread", "action_noise"), (0, math.inf, True)),
    **dict.fromkeys(("noisy", "curious", "random"), (0, 1, True)),
    "rnn_rate_decay": (0, 1, False),
    "new_share": (0.01, 1, True),
    "weight_bonus": (-math.inf, math.inf, True),
}


MAY_BE_0 = ("seed", "episodes", "min_frames", "linked", "dream_frames", "patience", "average")
# The greatest sizes: beyond any use, and below what a model's memory is taken for before its file is looked at.
GREATEST = {
    **dict.fromkeys(("z_size", "mixtures"), 1024),
    "rnn_units": 8192,
    **dict.fromkeys(("vae_batch", "rnn_batch", "rnn_length", "population", "lanes"), 1_000_000),
    "seed": math.inf,
}
MOST = 10**9  # of everything else that is counted
NUMBERS = 1 << 28  # of M's output layer, 1 GiB: sizes that are each allowed may be too many together


def check_number(item, value: float) -> None:
    """UserError unless a field's number is finite and in its bounds."""
    if item.type is int:
        low = 0 if item.name in MAY_BE_0 else 1
        high = GREATEST.get(item.name, MOST)
        if value < low:
            raise UserError(f"{flag(item.name)}: expected {low} or more, got {value}")
        if value > high:
            raise UserError(f"{flag(item.name)}: expected {high} or less, got {value!r:.40}")
        return
    low, high, included = BOUNDS[item.name]
    if not (math.isfinite(value) and (low <= value if included else low < value) and value <= high):
        expected = "a finite number" if low == -math.inf else f"a number {'of' if included else 'above'} {low}"
        expected += f" to {high}" if high < math.inf else " or more" if included and low > -math.inf else ""
        raise UserError(f"{flag(item.name)}: expected {expected}, got {value}")


def check_value(item, value) -> None:
    """UserError unless `value` is one that a field can have."""
    choices = item.metadata["choices"]
    if type(value) is not item.type and (item.type, type(value)) != (float, int):
        raise UserError(f"{flag(item.name)}: expected {KINDS[item.type]}, got {value!r}")
    if choices and value not in choices:
        raise UserError(f"{flag(item.name)}: expected one of {', '.join(choices)}, got {value!r}")
    if item.type is not str:
        check_number(item, value)


def check(config: Config) -> Config:
    """Returns `config`, or raises UserError naming the field that makes no sense for any task."""
    for item in dataclasses.fields(config):
        check_value(item, getattr(config, item.name))
    schedule_of(config.rollouts)
    if config.models_stay and config.round == 1:
        raise UserError("--episodes: expected 1 or more in a first round, got 0")
    if 3 * config.z_size * config.mixtures * config.rnn_units > NUMBERS:
        raise UserError(
            f"--z-size {config.z_size}, --mixtures {config.mixtures}, --rnn-units {config.rnn_units}: M's output layer "
            f"would have more than {NUMBERS:,} numbers; expected fewer"
        )
    if config.population < 4 or config.population % 2:
        raise UserError(f"--population: expected an even number of 4 or more, got {config.population}")
    return config
