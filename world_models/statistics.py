"""What returns of episodes, and scores of seeds, say: point estimates and how certain they are.

The estimators are rliable's (Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical
precipice", arXiv:2108.13264): the interquartile mean and percentile intervals of the bootstrap (Efron 1979). The
formulas stand here, since the package brings a plotting and a time-series library along.
"""

from collections.abc import Sequence

import numpy as np

Values = Sequence[float] | np.ndarray

RESAMPLES = 10_000
LEVEL = 95  # percent
FEWEST_SEEDS = 3  # fewer say nothing of their spread
FEWEST_EPISODES = 10  # the bootstrap's interval of a few is just their lowest and highest
STUDENT = (4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306)  # 97.5% quantiles of the t distribution of 3 to 9 values


def interquartile_mean(values: Values) -> float:
    """Mean of the middle half: without the lowest and the highest quarter, each rounded down (scipy's trim_mean)."""
    cut = len(values) // 4
    return float(np.sort(values)[cut : len(values) - cut].mean())


def interval(values: Values) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of the mean of `values` (N,), of episodes or of seeds, always drawn alike.
    It says how far the mean of another draw of these would lie."""
    values = np.asarray(values, float)
    rng, found = np.random.default_rng(0), []
    for _ in range(0, RESAMPLES, 1000):  # in parts: of 1,000 episodes all would be 80 MB
        found.append(values[rng.integers(len(values), size=(1000, len(values)))].mean(axis=1))
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(np.concatenate(found), [tail, 100 - tail])
    return float(low), float(high)


def standard_error(values: Values) -> float:
    """Of the mean of `values` (N,), with the spread that N - 1 differences tell; 0 of one value, which tells none."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def over_seeds(means: Values) -> dict[str, tuple[float, float]]:
    """Intervals of the mean over seeds' means, by how they were made; none of fewer than three seeds.

    Of three to nine seeds Student's t comes first: the bootstrap's interval is then little more than from the lowest to
    the highest, which holds the mean of three far less often than 95 times in 100.
    """
    if len(means) < FEWEST_SEEDS:
        return {}
    found = {}
    if len(means) < FEWEST_EPISODES:
        half = STUDENT[len(means) - FEWEST_SEEDS] * standard_error(means)
        found["t"] = (float(np.mean(means) - half), float(np.mean(means) + half))
    return found | {"bootstrap": interval(means)}


def over_episodes(values: Values) -> list[float] | None:
    """The interval of the mean of episodes' values; None of fewer than ten episodes."""
    return list(interval(values)) if len(values) >= FEWEST_EPISODES else None


def summary(returns: Values, mark: float | None = None) -> dict:
    """What a row of results says of its returns (N,).

    With `mark`, `solved` is the share of episodes that reach it.
    """
    returns = np.asarray(returns, float)
    found = {
        "mean": float(returns.mean()),
        "std": float(returns.std()),
        "standard_error": standard_error(returns),
        "interval": over_episodes(returns),
        "interquartile_mean": interquartile_mean(returns),
        "median": float(np.median(returns)),
        "min": float(returns.min()),
        "max": float(returns.max()),
    }
    return found if mark is None else found | {"mark": mark, "solved": float((returns >= mark).mean())}


def paired(one: dict, other: dict) -> dict | None:
    """The differences one - other on the episodes that two rows of results share; None if they share none.

    `better` is the share of episodes in which `one` returns more, ties counting half (rliable's probability of
    improvement, of pairs).
    """
    theirs = dict(zip(other["seeds"], other["returns"], strict=True))
    pairs = [(mine, theirs[seed]) for seed, mine in zip(one["seeds"], one["returns"], strict=True) if seed in theirs]
    if not pairs:
        return None
    difference = np.subtract(*np.array(pairs, float).T)
    return {
        "episodes": len(pairs),
        "mean": float(difference.mean()),
        "standard_error": standard_error(difference),
        "interval": over_episodes(difference),
        "better": float(((difference > 0) + 0.5 * (difference == 0)).mean()),
    }
