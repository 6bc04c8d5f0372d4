"""What the page says and does about each task: its numbers of an action, its keys, its words. Data, in one table."""

from dataclasses import asdict, dataclass


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
        label: what it says beside the key.
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
        actions, keys: see there.
        dead_zone: an action whose size is below this does nothing.
    """

    title: str
    goal: str
    fps: int
    unit: str
    actions: tuple[Action, ...]
    keys: tuple[Key, ...]
    dead_zone: float = 0.0
    survival: bool = False
    end: str = "the end"
    ended: str = "came to the end"

    def as_json(self) -> dict:
        return asdict(self)


TASKS = {
    "carracing": Controls(
        title="CarRacing",
        goal="Drive round the track, seen from above.",
        fps=50,
        unit="return of a lap",
        # The squashing of C's output and the ranges are those of controller/policy.py.
        actions=(
            Action("steer", ease=0.3),
            Action("gas", low=0.0, scale=0.5, offset=0.5, ease=0.3),
            Action("brake", low=0.0, ease=0.5),
        ),
        keys=(
            Key("Left", 0, -1.0, "left"),
            Key("Right", 0, 1.0, "right"),
            Key("Up", 1, 1.0, "gas"),
            Key("Down", 2, 0.8, "brake"),
        ),
    ),
    "doom": Controls(
        title="Doom: Take Cover",
        goal="Monsters at the far wall throw fireballs at you. Step aside, for as long as you can.",
        fps=35,
        unit="steps survived",
        actions=(Action("move"),),
        keys=(Key("Left", 0, -1.0, "left"), Key("Right", 0, 1.0, "right")),
        survival=True,
        end="death",
        ended="died",
        dead_zone=1 / 3,  # what lies within it stands still (tasks: Take Cover's buttons)
    ),
}


def controls_of(task: str, actions: int) -> Controls:
    """A task's row of the table; a task without one gets the arrow keys for its first two numbers, each -1..1."""
    if task in TASKS:
        return TASKS[task]
    keys = [Key("Left", 0, -1.0, "−"), Key("Right", 0, 1.0, "+")]
    if actions > 1:
        keys += [Key("Up", 1, 1.0, "+"), Key("Down", 1, -1.0, "−")]
    names = tuple(Action(f"action {k}") for k in range(actions))
    goal = "The arrow keys move the first numbers of the action."
    return Controls(task.removeprefix("gymnasium:"), goal, 30, "return", names, tuple(keys))
