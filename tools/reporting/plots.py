"""The report's figures. Every line has a style or marker of its own, and every area a hatch: they read in grey."""

import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from world_models import tasks
from world_models.runs.files import atomic_write

OURS, THEIRS = "#12365e", "#d07a10"  # dark and light, so that they stay apart when printed in grey
LINES = ("-", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))  # "--" is the published curve's
MARKERS = ("o", "s", "^", "D", "v", "P")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
XLABELS = {"generation": "generation", "hours": "hours of evolution"}
LEGEND_LINE, LEGEND_WIDTH = 0.2, 72  # of the histograms' legends: inches a line, characters
TITLE_WIDTH = 55  # of their titles, characters
BINS = 40  # of the histograms, over all that a figure shows
ROOM = 10  # how many times as far as our runs the published curve is shown

# What a line of metrics.jsonl calls a loss, in the reader's words.
LOSSES = {
    "vae": {"vae_loss": "loss", "r_loss": "reconstruction", "kl_loss": "KL to the prior"},
    "rnn": {"loss": "loss", "z_loss": "next z", "r_loss": "the episode's end"},
}
LOSS_LABELS = {
    "vae": ("V", "loss (squared error a frame; KL in nats)"),
    "rnn": ("M", "loss (nats; of z, a dimension)"),
}


def save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as tmp:
        figure.savefig(tmp, format="png", dpi=120)


def plain(axis) -> None:
    """Writes a log axis's ticks as plain numbers."""
    axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def columns(history: list[dict]) -> dict[str, dict[str, tuple]]:
    """Lines of history.jsonl -> columns, as published.curve has them."""
    names = ("generation", "seconds", "mean", "min", "max")
    scored = [line for line in history if line["evaluation"]]
    return {
        "generations": {name: tuple(line[name] for line in history) for name in names},
        "evaluation": {
            "generation": tuple(line["generation"] for line in scored),
            "seconds": tuple(line["seconds"] for line in scored),
            "mean": tuple(line["evaluation"]["mean"] for line in scored),
        },
    }


def training(path: Path, task: str, groups: list[tuple[str, list[list[dict]]]], published: dict | None) -> None:
    """Fitness against generations and against hours, over the published curve.

    Both x axes are logarithmic and end ROOM times after our last point (but show some of the published curve),
    so that a run of minutes can be read beside one of weeks.

    Args:
        path: the PNG to write.
        task: a task's name.
        groups: (label, lines of history.jsonl of each seed) of each experiment. One seed shows its best and worst
            candidate, several the lowest and the highest seed.
        published: published.curve(task), None if there is none.
    """
    figure = Figure(figsize=(11, 5), layout="constrained")
    ours = [together([columns(history) for history in histories]) for _, histories in groups]
    colors = [OURS] if len(ours) == 1 else mpl.colormaps["viridis"](np.linspace(0, 0.85, len(ours)))
    styles = [(color, LINES[k % len(LINES)], MARKERS[k % len(MARKERS)]) for k, color in enumerate(colors)]
    for axes, unit in zip(figure.subplots(1, 2, sharey=True), XLABELS, strict=True):
        first = min(along(curve["generations"], unit)[0] for curve in ours)
        last = max(along(curve["generations"], unit)[-1] for curve in ours)
        end = 1.2 * last
        if published is not None:
            theirs = along(published["generations"], unit)
            first, end = min(first, theirs[0]), max(min(ROOM * max(last, theirs[0]), theirs[-1]), end)
            _draw(axes, unit, published, end, (THEIRS, "--", "x"), hatch="...")
        for curve, style, (_, histories) in zip(ours, styles, groups, strict=True):
            band = len(histories) > 1 or len(groups) > 1
            _draw(axes, unit, curve, end, style, hatch="" if band else None, edges=len(histories) > 1 or not band)
        axes.set(xscale="log", xlim=(first * 0.9, end), xlabel=f"{XLABELS[unit]} (logarithmic)")
        axes.set_title(f"C, {tasks.get(task).label}: by {XLABELS[unit]}")
        axes.set_ylabel(tasks.get(task).returns)
        axes.tick_params(labelleft=True)
        axes.grid(alpha=0.3)
        plain(axes.xaxis)
    named = [(label, style) for (label, _), style in zip(groups, styles, strict=True)]
    if published is not None:
        name = "published (dream)" if tasks.get(task).evolves_in_dreams else "published"
        named.insert(0, (name, (THEIRS, "--", "x")))
    handles = [
        Line2D([], [], c=c, ls=ls, marker=m, mfc="white", mew=1.5, lw=2, label=name) for name, (c, ls, m) in named
    ]
    several = any(len(histories) > 1 for _, histories in groups)
    handles.append(
        Line2D([], [], c="0.3", lw=2.5, label="line: mean of the candidates" + ", mean over seeds" * several)
    )
    around = "area: best and worst candidate" if len(groups) > 1 else "thin lines, or area: best and worst candidate"
    around = "band: lowest and highest seed" if several else around
    handles += [
        Line2D([], [], c="0.3", lw=0.7, label=around),
        Line2D(
            [], [], c="0.3", ls="", marker="o", mfc="white", label="marker: the distribution's mean, fresh episodes"
        ),
    ]  # fmt: skip
    longest = max(len(handle.get_label()) for handle in handles)
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, 150 // (longest + 6)), fontsize="small")
    save(figure, path)


def together(curves: list[dict[str, dict[str, tuple]]]) -> dict[str, dict[str, tuple]]:
    """Curves of seeds as one: their mean, with `min` and `max` the lowest and the highest seed's mean, as far as all
    of them go; a single one as it is."""
    if len(curves) == 1:
        return curves[0]
    table = [curve["generations"] for curve in curves]
    count = min(len(one["generation"]) for one in table)
    means = np.array([one["mean"][:count] for one in table])
    seconds = tuple(np.mean([one["seconds"][:count] for one in table], axis=0))
    generations = {
        "generation": table[0]["generation"][:count],
        "seconds": seconds,
        "mean": tuple(means.mean(axis=0)),
        "min": tuple(means.min(axis=0)),
        "max": tuple(means.max(axis=0)),
    }
    scored = [dict(zip(c["evaluation"]["generation"], c["evaluation"]["mean"], strict=True)) for c in curves]
    shared = sorted(set.intersection(*map(set, scored)) & set(generations["generation"]))
    evaluation = {
        "generation": tuple(shared),
        "seconds": tuple(seconds[generations["generation"].index(g)] for g in shared),
        "mean": tuple(float(np.mean([one[g] for one in scored])) for g in shared),
    }
    return {"generations": generations, "evaluation": evaluation}


def along(table: dict[str, tuple], unit: str) -> np.ndarray:
    """The x of a curve's points: its generations, or its seconds as hours."""
    return np.array(table["seconds"]) / 3600 if unit == "hours" else np.array(table["generation"])


def _draw(
    axes: Axes, unit: str, curve: dict, end: float, style: tuple, hatch: str | None = None, edges: bool = True
) -> None:
    """One curve, up to x = `end`: its mean; from its min to its max, with `edges`, an area with that `hatch`, or with
    None thin lines; and the evaluations as markers."""
    color, line, marker = style
    table = curve["generations"]
    x = along(table, unit)
    seen = np.searchsorted(x, end) + 1  # one point beyond the edge, for the lines to run into it
    x = x[:seen]
    mean, worst, best = (table[name][:seen] for name in ("mean", "min", "max"))
    axes.plot(x, mean, color=color, lw=1.8, linestyle=line)
    if hatch is not None and edges:
        axes.fill_between(x, worst, best, facecolor=color, edgecolor=color, alpha=0.25, hatch=hatch, lw=0)
    elif edges:
        axes.plot(x, best, color=color, lw=0.6, linestyle=line)
        axes.plot(x, worst, color=color, lw=0.6, linestyle=line)
    table = curve["evaluation"]
    x = along(table, unit)
    seen = x <= end
    axes.plot(x[seen], np.array(table["mean"])[seen], marker, color=color, mfc="white", ms=6, mew=1.3)


def histograms(path: Path, task: str, groups: list[tuple[str, dict[str, list[float]], tuple | None]]) -> None:
    """Returns of test episodes beside the published mean ± std; a panel for each kind of test.

    Args:
        path: the PNG to write.
        task: a task's name.
        groups: (title, returns by label of the run, published (mean, std) or None) of each panel.
    """
    wide = min(len(groups), 2)
    rows = -(-len(groups) // wide)
    labels = [
        [
            textwrap.fill(f"{label}: {np.mean(values):.1f} ± {np.std(values):.1f}", LEGEND_WIDTH)
            for label, values in returns.items()
        ]
        for _, returns, _ in groups
    ]
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
        axes.set(
            title=textwrap.fill(title, TITLE_WIDTH),
            xlabel=tasks.get(task).returns,
            ylabel="test episodes",
            ylim=(0, 1.1 * np.max(counts)),
        )
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
        for k, name in enumerate(names):
            values = np.array([[lines[step].get(name, np.nan) for step in steps] for lines in seeds])
            axes.plot(
                steps, values.mean(axis=0), ls=LINES[k % len(LINES)], color=OURS,
                lw=max(2.2 - 0.5 * k, 0.7), marker=MARKERS[k % len(MARKERS)],
                markevery=max(1, len(steps) // 8), mfc="white", label=LOSSES[model].get(name, name),
            )  # fmt: skip
            if len(seeds) > 1:
                axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=OURS, alpha=0.2, lw=0)
        title, label = LOSS_LABELS[model]
        axes.set(title=title, xlabel="training step", ylabel=label)
        if model == "vae":  # M's loss is a density's and may be negative
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
            plain(axes.yaxis)
            axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    save(figure, path)
