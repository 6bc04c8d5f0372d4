"""What the report and the model card say in the same words, and Markdown tables."""

import glob
import re
from pathlib import Path

from world_models.config import UserError
from world_models.runs import packed, storage

# Of pictures, by the pattern of their names; {} is what the pattern leaves open.
CAPTIONS = {
    "training-*": "C's evolution over the published one.",
    "histogram-*": "Returns of the test episodes, and the published mean ± std.",
    "losses": "V's and M's learning curves.",
    "reconstructions": "Recorded frames, and below them V's reconstructions.",
    "dream-*": "A dream of M at temperature {}, driven by the run's agent.",
    "*-best": "The end of the best test episode, ten steps from picture to picture.",
    "*-median": "The end of the median test episode.",
    "*-worst": "The end of the worst test episode.",
}

NUMBER = re.compile(r"[\d.e+-]+")
COMMON = ("training-*", "histogram-*")  # of all runs in a report


def pictures(at: Path, suffix: str = "") -> list[tuple[Path, str]]:
    """A run's pictures in a folder, each with its caption.

    Args:
        suffix: what the names of this run's end with, where several runs' pictures lie; COMMON ones have none.
    """
    found = []
    for pattern, words in CAPTIONS.items():
        end = "" if pattern in COMMON else suffix
        for path in sorted(at.glob(f"{pattern}{glob.escape(end)}.png")):
            left_open = path.stem.removesuffix(end).removeprefix(pattern.rstrip("*"))
            if pattern != "dream-*" or NUMBER.fullmatch(left_open):  # else a dream of another run, old-doom for doom
                found.append((path, words.format(left_open)))
    return found


def pack_of(run: Path, at: Path) -> bool:
    """Whether `at` is a packed run or its report/, which show the pack's own pictures, where others have copies."""
    return packed.is_packed(run) and at in (run, run / "report")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def fill(path: Path, sections: dict[str, str]) -> None:
    """Replace what stands between the comments of each section of a Markdown page."""
    text = path.read_text()
    for name, content in sections.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise UserError(f"{path} has no lines '{begin}' and '{end}' for the {name} to stand between")
        text = f"{before}{begin}\n{content}{end}{after}"
    storage.write_text(path, text)
