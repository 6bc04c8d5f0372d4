"""Text as a person reads it: numbers with the digits that they deserve, and foreign words that are harmless where they
stand.

Names, settings and results come from files that anybody may have written. Whoever prints them, or writes them into a
page, uses the function of that place: `printable` for a terminal, `markdown`, `code`, `html` or `latex` for a page.
"""

import html as _html
import math
import re

MARKUP = re.compile(r"[\\`|]|\](?=[(\[:])")  # what is escaped in Markdown; of brackets those that end a link's text
LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {"±": r"$\pm$", "τ": r"$\tau$", "×": r"$\times$"}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def printable(text: str, keep: str = "") -> str:
    """Text without characters that steer a terminal or hide: each that is not in `keep`, such as a newline, is replaced
    by its escape, such as \\x1b."""
    kept = {letter for letter in text if letter.isprintable() or letter in keep}
    return "".join(letter if letter in kept else letter.encode("unicode_escape").decode() for letter in text)


def html(text: str) -> str:
    """Text for HTML, also inside of a quoted attribute."""
    return _html.escape(printable(text))


def markdown(text: str) -> str:
    """Text for a line or a cell of Markdown: no HTML, no link, no code, no cell of a table begins in it."""
    return MARKUP.sub(r"\\\g<0>", _html.escape(printable(text), quote=False))


def code(text: str) -> str:
    """Text for a block of code of Markdown, which it cannot end."""
    return printable(text, keep="\n").replace("```", "'''")


def latex(text: str) -> str:
    """Text for LaTeX."""
    return "".join(LATEX.get(letter, letter) for letter in printable(text))


def digits(*values: float) -> int:
    """Decimals that show two significant digits of the smallest of `values` that is not 0: at least 1, at most 6."""
    sizes = [abs(value) for value in values if value]
    return min(max(1, 1 - math.floor(math.log10(min(sizes)))), 6) if sizes else 1


def number(value: float, decimals: int = 1) -> str:
    """A number with so many decimals; never -0.0."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def plus_minus(mean: float, std: float) -> str:
    """mean ± std, such as 873.8 ± 66.7 or 0.60 ± 0.30."""
    decimals = digits(std or mean)
    return f"{number(mean, decimals)} ± {number(std, decimals)}"


def duration(seconds: float) -> str:
    """Seconds as 40 s, 2.5 min or 4.0 h."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
