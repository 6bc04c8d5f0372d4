"""A setting: its default, its help, and the values that it may have."""

import dataclasses
import math
import re
from typing import Any

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

    Args:
        default: its value in the paper's CarRacing.
        text: the help of its flag.
        group: the heading of its flag in the help. Fields under "lineage" and "test" have no flag: `--after` and a test
            set them.
        choices: the values of a text.
        bounds: of a number: least, greatest, and whether the least is allowed.
        source: where the default comes from: a section of the paper, or a file of the original release.
    """
    return dataclasses.field(
        default=default,
        metadata={"help": text, "group": group, "choices": choices, "bounds": bounds, "source": source},
    )


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


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
