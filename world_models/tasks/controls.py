"""How a person plays a task on the page of dreams (tools/page): the numbers of an action, keys, words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """One number of an action.

    Attributes:
        name: what it does.
        low, high: its range.
        scale, offset: C's number a in -1..1 becomes scale * a + offset, cut to the range.
        ease: the share of the way to a key's value that is gone in a step: a key is not a pedal.
    """

    name: str
    low: float = -1.0
    high: float = 1.0
    scale: float = 1.0
    offset: float = 0.0
    ease: float = 1.0


@dataclass(frozen=True)
class Key:
    """An arrow key: sets number `action` of the action to `value` while it is held.

    Attributes:
        key: "Left", "Right", "Up" or "Down".
        label: what stands next to the key.
    """

    key: str
    action: int
    value: float
    label: str


@dataclass(frozen=True)
class Controls:
    """A task on the page.

    Attributes:
        title: its name.
        goal: one sentence: what one does in it.
        fps: steps a second of the game itself.
        unit: what a score counts; survival: whether that is the steps until the end.
        end, ended: what M's end head predicts, and what has happened to one then.
        lost: what becomes of the dream of an M that was trained for fewer steps than the published one; "" if nothing.
        easier: why M's dream is easier than the game; "" if nobody knows.
        actions, keys: see there.
        dead_zone: an action whose size is below this does nothing.
        choice: whether the action is a choice: 1 for the greatest of C's numbers, 0 for the others. A key makes the
            choice of its number, which stays until another does.
    """

    title: str
    goal: str
    fps: int
    unit: str
    actions: tuple[Action, ...]
    keys: tuple[Key, ...]
    dead_zone: float = 0.0
    choice: bool = False
    survival: bool = False
    end: str = "the end"
    ended: str = "came to the end"
    lost: str = ""
    easier: str = ""


def plain(title: str, actions: int, fps: int) -> Controls:
    """The controls of a task that has none of its own: the arrow keys are its first two numbers, each -1 to 1."""
    keys = [Key("Left", 0, -1.0, "−"), Key("Right", 0, 1.0, "+")]
    if actions > 1:
        keys += [Key("Up", 1, 1.0, "+"), Key("Down", 1, -1.0, "−")]
    names = tuple(Action(f"action {k}") for k in range(actions))
    goal = "The arrow keys move the first numbers of the action."
    return Controls(title, goal, fps, "return", names, tuple(keys))


def choices(title: str, count: int, fps: int) -> Controls:
    """The controls of a task whose action is one of `count` choices: the arrow keys make the first four."""
    arrows = ("Left", "Right", "Up", "Down")[:count]
    keys = tuple(Key(arrow, k, 1.0, f"choice {k}") for k, arrow in enumerate(arrows))
    names = tuple(Action(f"choice {k}", low=0.0) for k in range(count))
    goal = "Each arrow key makes a choice, which stays until the next."
    return Controls(title, goal, fps, "return", names, keys, choice=True)
