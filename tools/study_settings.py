"""The settings of the search that a study compares."""

# What each changes of "48x4". A rising schedule begins with few episodes a candidate: early, generations count.
BASE = dict(population=48, rollouts="4", seeds="common", optimizer="cma", sigma=0.1, patience=0)
SETTINGS = {
    "48x4": {},
    "24x2": dict(population=24, rollouts="2"),
    "24x4": dict(population=24),
    "48x1": dict(rollouts="1"),
    "64x16": dict(population=64, rollouts="16"),
    "24-rising": dict(population=24, rollouts="1,15:2,30:4,50:8"),
    "48-rising": dict(rollouts="1,15:2,30:4,50:8"),
    "pairs": dict(seeds="pairs"),
    "sigma-0.05": dict(sigma=0.05),
    "sigma-0.2": dict(sigma=0.2),
    "diagonal": dict(optimizer="cma-diagonal"),
    "tpa": dict(optimizer="cma-tpa"),
    "cmean-0.5": dict(optimizer="cma-cmean"),
    "openai-es": dict(optimizer="openai-es"),
    "ga": dict(optimizer="ga"),
    "patience-20": dict(patience=20),
    "48-rising-patience-20": dict(rollouts="1,15:2,30:4,50:8", patience=20),
}
