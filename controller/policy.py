"""C: the controller, a linear map from what V and M know to an action; and the policies that play at random.

One function serves one agent in numpy and a whole population inside TensorFlow: it takes the array module
as an argument (`numpy`, or `keras.ops`, which has the same names).

Layouts of the flat parameter vector are the release's (carracing/model.py, doomrnn/model.py), and so is the
rule that CarRacing has biases, before the weights, and Doom has none.
"""

import numpy as np

from config import action_size

HIDDEN = 40  # tanh units of "z_hidden" (paper 3.4; carracing/model.py)


def feature_size(features: str, z_size: int, units: int) -> int:
    """How many numbers C sees: the length of [z], [z, h], [z, c] or [z, c, h]."""
    return z_size + units * {"z": 0, "z_hidden": 0, "zh": 1, "zc": 1, "zch": 2}[features]


def layers(task: str, features: str, z_size: int, units: int) -> list[tuple[int, int, bool]]:
    """C's layers as (inputs, outputs, has biases)."""
    biases = task == "carracing"
    size = feature_size(features, z_size, units)
    if features == "z_hidden":
        return [(size, HIDDEN, True), (HIDDEN, action_size(task), biases)]
    return [(size, action_size(task), biases)]


def count(task: str, features: str, z_size: int, units: int) -> int:
    """Parameters of C: 867 for CarRacing's [z, h], 1,088 for Doom's [z, c, h]."""
    return sum((inputs + biases) * outputs for inputs, outputs, biases in layers(task, features, z_size, units))


def observe(z, c, h, features: str, xp=np):
    """What C sees, (B, F): M's cell state stands before its hidden state (doomrnn/model.py)."""
    parts = {"z": [z], "z_hidden": [z], "zh": [z, h], "zc": [z, c], "zch": [z, c, h]}[features]
    return xp.concatenate(parts, axis=-1)


def act(params, x, task: str, features: str, z_size: int, units: int, xp=np):
    """The actions of B agents, each with parameters of its own.

    Args:
        params: (B, P), flat parameters.
        x: (B, F), from `observe`.

    Returns:
        (B, A), squashed: CarRacing's steer, gas, brake, or Doom's left-right in -1..1 (paper A.4, A.5).
    """
    start = 0
    for inputs, outputs, biases in layers(task, features, z_size, units):
        bias = params[:, start : start + outputs] if biases else 0.0
        start += outputs * biases
        weight = xp.reshape(params[:, start : start + inputs * outputs], (-1, inputs, outputs))
        start += inputs * outputs
        x = xp.tanh(xp.einsum("bi,bio->bo", x, weight) + bias)
    return squash(x, task, xp)


def squash(a, task: str, xp=np):
    """tanh outputs (B, A) -> actions: gas from -1..1 to 0..1, brake cut at 0 (carracing/model.py)."""
    if task == "doom":
        return a
    return xp.stack([a[:, 0], (a[:, 1] + 1.0) / 2.0, xp.clip(a[:, 2], 0.0, 1.0)], axis=-1)


class RandomDriver:
    """CarRacing's random policy: one random linear controller an episode (carracing/extract.py).

    The release draws weights from a standard Cauchy times U(0, 0.01) for V, M and C alike. Over such a V and
    M, z is as good as N(0, I) and h as good as 0, so only C's part for z and its biases are drawn here.
    """

    def __init__(self, rng: np.random.Generator, z_size: int = 32):
        self.rng, self.z_size = rng, z_size
        size = count("carracing", "z", z_size, 0)
        self.params = rng.standard_cauchy((1, size)) * rng.uniform(0, 0.01)

    def act(self, frame: int) -> np.ndarray:
        """float32 (3,), for any frame."""
        z = self.rng.standard_normal((1, self.z_size))
        return act(self.params, z, "carracing", "z", self.z_size, 0)[0].astype(np.float32)


class RandomStrafer:
    """Doom's random policy (doomrnn/extract.py): U(-1, 1), redrawn at frames that `repeat` divides, `repeat`
    itself being redrawn, 1 to `longest`, at that moment.

    The release's `longest` is 10, with which an agent spends 3% of its life beside a wall; with LONG it is 17%.
    In few episodes M would else not learn that one dies there, too.
    """

    LONG = 60  # frames; from the middle to a wall it is about 50

    def __init__(self, rng: np.random.Generator, longest: int = 10):
        self.rng, self.longest = rng, longest
        self.repeat = int(rng.integers(1, longest + 1))
        self.action = np.zeros(1, np.float32)

    def act(self, frame: int) -> np.ndarray:
        """float32 (1,), for frames counted from 0."""
        if frame % self.repeat == 0:
            self.action = self.rng.uniform(-1, 1, 1).astype(np.float32)
            self.repeat = int(self.rng.integers(1, self.longest + 1))
        return self.action


class RandomWanderer:
    """CarRacing's smoothed noise: each action an autoregressive walk about a mean drawn for the episode.

    Not the release's. Its random linear controllers leave the field, for good, in more than half of their
    episodes, and a third of all frames is black. A small machine cannot afford to train on those.
    """

    KEEP = 0.95  # of the deviation, from frame to frame: it is forgotten in about 20 frames, 0.4 s

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.mean = np.array([0.0, rng.uniform(0.0, 0.3), rng.uniform(-0.3, 0.0)])
        self.spread = np.array([rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.3), rng.uniform(0.05, 0.2)])
        self.deviation = np.zeros(3)

    def act(self, frame: int) -> np.ndarray:
        """float32 (3,), for any frame."""
        noise = np.sqrt(1 - self.KEEP**2) * self.spread * self.rng.standard_normal(3)
        self.deviation = self.KEEP * self.deviation + noise
        return np.clip(self.mean + self.deviation, (-1, 0, 0), (1, 1, 1)).astype(np.float32)


def random_policy(task: str, name: str, rng: np.random.Generator) -> RandomDriver | RandomWanderer | RandomStrafer:
    """The policy that plays a recorded episode: the task's in the release, or the "smooth" one."""
    smooth = name == "smooth"
    if task == "doom":
        return RandomStrafer(rng, RandomStrafer.LONG) if smooth else RandomStrafer(rng)
    return RandomWanderer(rng) if smooth else RandomDriver(rng)
