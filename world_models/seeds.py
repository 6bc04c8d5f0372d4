"""One run seed, split by name and by index.

Every stream of random numbers is `numpy.random.Generator` over `SeedSequence([run seed, name, indices])`, so
that no stage depends on how much randomness another one used; but z's noise and
dropout while V and M train, which are TensorFlow's stateless ones over [key, step]. Episodes get integers instead,
since that is what an environment's `reset(seed=)` takes; each purpose has a range of its own, so they cannot meet.
"""

import zlib

import numpy as np

PURPOSES = ("record", "train", "select", "test")  # random episodes, C's fitness, choosing C, reporting C
TEST_SEED = 0  # of the test episodes of every run, so that agents are compared on the same ones
RANGE = 1 << 28  # seeds a purpose owns; all of them lie below 2^31


def generator(seed: int, name: str, *indices: int) -> np.random.Generator:
    """The stream called `name` (and `indices`) of the run seed `seed`."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *indices])


def key(seed: int, name: str) -> int:
    """The stream called `name` as an integer, for generators that take no more."""
    return int(generator(seed, name).integers(1 << 31))


def episode_seeds(seed: int, purpose: str, first: int, count: int) -> list[int]:
    """Seeds number `first` .. `first + count - 1` of a purpose; distinct, and in no other purpose's range."""
    start = int(generator(seed, f"episodes to {purpose}").integers(RANGE))
    base = PURPOSES.index(purpose) * RANGE
    return [base + (start + first + k) % RANGE for k in range(count)]


def test_seeds(count: int) -> list[int]:
    """The first `count` test episodes, the same for every run whatever its seed."""
    return episode_seeds(TEST_SEED, "test", 0, count)
