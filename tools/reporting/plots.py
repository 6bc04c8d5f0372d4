"""The report's figures. `path` is the PNG to write, with the PDF next to it, and `task` the name of a task. Every line
has a style or marker of its own, and every area a hatch, so that they can be read in grey."""

import itertools
import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from world_models import published, tasks
from world_models.runs.files import atomic_write
from world_models.text import plus_minus

mpl.rcdefaults()  # the user's own matplotlibrc may ask for LaTeX, which need not be installed
mpl.use("agg")
mpl.rcParams["text.parse_math"] = False  # a run's name may hold $

OURS, THEIRS = "#12365e", "#d07a10"  # dark and light, so that they stay apart when printed in grey
LINES = ("-", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))  # "--" is the published curve's
MARKERS = ("o", "s", "^", "D", "v", "P")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
LEGEND_LINE, LEGEND_WIDTH = 0.2, 72  # of the histograms' legends: inches a line, characters
TITLE_WIDTH = 55  # of their titles, characters
FLOOR = 0.75  # of the best score: where the axis of scores against episodes begins
BINS = 40  # of the histograms, over all that a figure shows

# Of each model: title, label, and what a line of metrics.jsonl calls a loss, in the reader's words.
LOSSES = {
    "vae": ("V", "loss (squared error a frame; KL in nats)",
            {"vae_loss": "loss", "r_loss": "reconstruction", "kl_loss": "KL to the prior"}),
    "rnn": ("M", "loss (nats; of z, a dimension)", {"loss": "loss", "z_loss": "next z", "r_loss": "the episode's end"}),
}  # fmt: skip


def save(figure: Figure, path: Path) -> list[Path]:
    """Writes a figure as PNG and as PDF; their paths. The same figure gives the same bytes."""
    paths = [path.with_suffix(".png"), path.with_suffix(".pdf")]
    for one, metadata in zip(paths, ({"Software": None}, {"CreationDate": None}), strict=True):
        with atomic_write(one) as tmp:
            figure.savefig(tmp, format=one.suffix[1:], dpi=120, metadata=metadata)
    return paths


def plain(axis) -> None:
    """Writes a log axis's ticks as plain numbers."""
    axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))


def columns(history: list[dict]) -> dict[str, dict[str, np.ndarray]]:
    """Lines of history.jsonl as columns, as published.curve has them."""
    scored = [line | line["evaluation"] for line in history if line["evaluation"]]
    kinds = {"generations": (history, ("generation", "seconds", "mean", "min", "max"))}
    kinds["evaluation"] = (scored, ("generation", "seconds", "mean"))
    return {kind: {n: np.array([line[n] for line in lines]) for n in names} for kind, (lines, names) in kinds.items()}


def together(curves: list[dict[str, dict]]) -> dict[str, dict]:
    """Curves of seeds as one: the mean of their columns, with `min` and `max` the lowest and the highest seed's mean,
    on the generations that all of them have; a single one as it is."""
    if len(curves) == 1:
        return curves[0]
    found = {}
    for kind in curves[0]:
        shared = sorted(set.intersection(*({*map(int, curve[kind]["generation"])} for curve in curves)))
        seconds, means = (
            np.array([np.array(curve[kind][name])[np.isin(curve[kind]["generation"], shared)] for curve in curves])
            for name in ("seconds", "mean")
        )
        found[kind] = {"generation": np.array(shared), "seconds": seconds.mean(axis=0), "mean": means.mean(axis=0)}
        found[kind] |= {"min": means.min(axis=0), "max": means.max(axis=0)}
    return found


def training(path: Path, task: str, groups: list[tuple[str, list[list[dict]]]], theirs: dict | None) -> None:
    """Returns against generations and against hours, next to the whole published curve `theirs` (published.curve).

    Both x axes are logarithmic, so that a run of minutes can be read next to one of weeks. `groups` has (label, lines
    of history.jsonl of each seed) of each experiment. An area reaches from the lowest to the highest seed, or where
    there is one experiment of one seed, from its worst to its best candidate.
    """
    several = any(len(histories) > 1 for _, histories in groups)
    colors = [OURS] if len(groups) == 1 else mpl.colormaps["viridis"](np.linspace(0, 0.85, len(groups)))
    styles = zip(colors, itertools.cycle(LINES), itertools.cycle(MARKERS), strict=False)
    drawn = [
        (label, together([columns(one) for one in histories]), len(groups) == 1 or len(histories) > 1, *style, "")
        for (label, histories), style in zip(groups, styles, strict=False)
    ]
    if theirs is not None:
        name = "published (in dreams)" if tasks.get(task).evolves_in_dreams else "published"
        drawn.insert(0, (name, theirs, True, THEIRS, "--", "x", "..."))
    handles = []
    figure = Figure(figsize=(11, 4.4 + 0.1 * len(drawn)), layout="constrained")
    units = (("generation", "generation", 1), ("seconds", "hours of evolution", 3600))
    for axes, (column, xlabel, unit) in zip(figure.subplots(1, 2, sharey=True), units, strict=True):
        ends = []
        for label, curve, area, color, line, marker, hatch in drawn:
            table, scored = curve["generations"], curve["evaluation"]
            x, style = np.array(table[column]) / unit, {"color": color, "ls": line, "lw": 1.8}
            ends += [x[0], x[-1]]
            axes.plot(x, table["mean"], **style)
            if area:
                shade = {"facecolor": color, "edgecolor": color, "alpha": 0.25, "hatch": hatch, "lw": 0}
                axes.fill_between(x, table["min"], table["max"], **shade)
            points = {"color": color, "marker": marker, "mfc": "white"}
            axes.plot(np.array(scored[column]) / unit, scored["mean"], ls="", ms=6, mew=1.3, **points)
            handles += [Line2D([], [], label=label, **style | points)] if column == "seconds" else []
        axes.set(xscale="log", xlim=(min(ends) * 0.9, max(ends) * 1.2), xlabel=f"{xlabel} (logarithmic)")
        axes.set(ylabel=tasks.get(task).returns, title=f"C, {tasks.get(task).label}: by {xlabel}")
        axes.tick_params(labelleft=True)
        axes.grid(alpha=0.3)
        plain(axes.xaxis)
    said = "lowest and highest seed; published: " * several + "worst and best candidate"
    extra = {"line: mean of the candidates": {}, f"area: {said}": {"lw": 7, "alpha": 0.3}}
    extra |= {"marker: mean of the search's distribution, on fresh episodes": {"ls": "", "marker": "o", "mfc": "white"}}
    handles += [Line2D([], [], c="0.3", label=label, **style) for label, style in extra.items()]
    wide = max(len(handle.get_label()) for handle in handles) + 8
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, 160 // wide), fontsize="small")
    save(figure, path)


def by_episodes(path: Path, task: str, ours: list[tuple[str, list[tuple[float, float, float]]]]) -> list[Path]:
    """Scores against the real training episodes of C, next to the published ones; the paths of the pictures. `ours` has
    (label, [(episodes, score, half of the 95% interval), ...]) of each agent, a point for each round."""
    theirs = published.by_episodes(task)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for (label, points), color, line in zip(theirs, (THEIRS, "#8a4f7d", "#5b8c5a", "0.4"), LINES, strict=False):
        marker = "x" if len(points) < 20 else ""
        axes.plot(*np.array(points).T, color=color, ls=line, lw=1.8, marker=marker, label=label)
    for k, (label, points) in enumerate(ours):
        x, y, half = np.array(points).T
        axes.errorbar(x, y, half, color=OURS, ls="-", lw=2, marker=MARKERS[k], mfc="white", capsize=4, label=label)
        box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        for number, point in enumerate(points, 1):  # the last round's to its right, since the last two may be close
            side = {"xytext": (8, 8), "ha": "left"} if number == len(points) else {"xytext": (-8, 8), "ha": "right"}
            axes.annotate(f"round {number}", point[:2], color=OURS, textcoords="offset points", bbox=box, **side)
    every = [(label, *point[:2]) for label, points in (*theirs, *ours) for point in points]
    first, last, top = min(x for _, x, _ in every), max(x for _, x, _ in every), max(y for *_, y in every)
    floor = FLOOR * top
    for label, x, y in every:
        if y < floor:  # it stays out of the picture, which says so
            arrow = {"xy": (x, floor), "xytext": (0, 22), "arrowprops": {"arrowstyle": "->"}}
            axes.annotate(f"{label}: {y:g} at {x:,}", textcoords="offset points", ha="right", fontsize="small", **arrow)
    axes.set(xscale="log", xlim=(first / 2, last * 1.3), ylim=(floor, top + (top - floor) / 8))
    axes.set(xlabel="training episodes of C in the real environment (logarithmic)", ylabel=tasks.get(task).returns)
    axes.set_title(f"{tasks.get(task).label}: score against real episodes")
    plain(axes.xaxis)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower center", bbox_to_anchor=(0.42, 0.1), fontsize="small")
    return save(figure, path)


def histograms(path: Path, task: str, groups: list[tuple[str, dict[str, list[float]], tuple | None]]) -> None:
    """Returns of test episodes next to the published mean ± std. `groups` has (title, returns by label of the run,
    published (mean, std) or None) of each panel, one for each kind of test."""
    wide = min(len(groups), 2)
    rows = -(-len(groups) // wide)
    labels = [[f"{label}: {plus_minus(np.mean(values), np.std(values))}" for label, values in returns.items()]
              for _, returns, _ in groups]  # fmt: skip
    labels = [[textwrap.fill(label, LEGEND_WIDTH) for label in texts] for texts in labels]
    lines = 2 + max("\n".join(texts).count("\n") + 1 for texts in labels)  # with our mean and the published one
    figure = Figure(figsize=(6.5 * wide, 0.7 + (2.7 + LEGEND_LINE * lines) * rows), layout="constrained")
    panels = figure.subplots(rows, wide, squeeze=False, sharex=True).flat
    seen = [value for _, returns, _ in groups for values in returns.values() for value in values]
    seen += [edge for _, _, known in groups if known for edge in (known[0] - known[1], known[0] + known[1])]
    bins = np.histogram_bin_edges(seen, bins=BINS)
    for axes, texts, (title, returns, known) in zip(panels, labels, groups, strict=False):
        if known:
            mean, std = known
            axes.axvspan(mean - std, mean + std, facecolor=THEIRS, edgecolor=THEIRS, alpha=0.25, hatch="...", lw=0)
            axes.axvline(mean, color=THEIRS, ls="--", lw=2, label=f"published: {mean:g} ± {std:g}")
        shades = [str(shade) for shade in np.linspace(0.8, 0.45, len(returns))]
        hatches = [HATCHES[k % len(HATCHES)] for k in range(len(returns))]
        style = {"color": shades, "hatch": hatches, "edgecolor": "black", "lw": 0.6, "label": texts}
        counts, _, _ = axes.hist(list(returns.values()), bins, stacked=True, **style)
        axes.axvline(np.mean(np.concatenate(list(returns.values()))), color="black", lw=2, label="our mean")
        axes.set(xlabel=tasks.get(task).returns, ylabel="test episodes", ylim=(0, 1.1 * np.max(counts)))
        axes.set_title(textwrap.fill(title, TITLE_WIDTH))
        axes.tick_params(labelbottom=True)
        below = axes.transAxes + mpl.transforms.ScaledTranslation(0, -0.5, figure.dpi_scale_trans)  # the axis's label
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below, fontsize="small")
        axes.yaxis.get_major_locator().set_params(integer=True)
    for axes in figure.axes[len(groups) :]:
        axes.set_axis_off()
    save(figure, path)


def losses(path: Path, runs: list[list[dict]]) -> None:
    """Learning curves of V and M, from the lines of metrics.jsonl of one run or of several seeds: their mean, in a band
    from the lowest to the highest, as far as all of them go."""
    models = [name for name in LOSSES if all(any(line["model"] == name for line in lines) for lines in runs)]
    figure = Figure(figsize=(5.5 * len(models), 4), layout="constrained")
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False).flat, models, strict=True):
        seeds = [{line["step"]: line for line in lines if line["model"] == model} for lines in runs]
        steps = sorted(set.intersection(*map(set, seeds)))
        names = [name for name in seeds[0][steps[-1]] if name not in ("model", "step", "seconds")]
        title, label, words = LOSSES[model]
        for k, name in enumerate(names):
            values = np.array([[lines[step].get(name, np.nan) for step in steps] for lines in seeds])
            style = {"ls": LINES[k % len(LINES)], "lw": max(2.2 - 0.5 * k, 0.7), "marker": MARKERS[k % len(MARKERS)]}
            style |= {"color": OURS, "mfc": "white", "markevery": max(1, len(steps) // 8)}
            axes.plot(steps, values.mean(axis=0), label=words.get(name, name), **style)
            if len(seeds) > 1:
                axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=OURS, alpha=0.2, lw=0)
        axes.set(title=title, xlabel="training step", ylabel=label)
        if model == "vae":  # M's loss is a density's and may be negative
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
            plain(axes.yaxis)
            axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    save(figure, path)
