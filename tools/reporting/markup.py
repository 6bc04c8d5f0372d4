"""The blocks of a page, written as Markdown and as HTML. Blocks hold plain text, and the writers escape it."""

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from world_models import text
from world_models.config import UserError
from world_models.runs import files

STYLE = """body { font: 16px/1.5 sans-serif; max-width: 1100px; margin: auto; padding: 1em; }
table { border-collapse: collapse; font-size: 90%; } td, th { border: 1px solid #bbb; padding: .2em .5em; }
img, video { max-width: 100%; border: 1px solid #888; } pre { overflow-x: auto; background: #f2f2f2; padding: .5em; }"""


class Heading(NamedTuple):
    text: str
    level: int = 2


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Notes(NamedTuple):
    """The user's own Markdown, which stays Markdown; HTML in it is escaped."""

    text: str


class Code(NamedTuple):
    """Lines of code, such as commands."""

    text: str
    language: str = ""


class Table(NamedTuple):
    header: tuple[str, ...]
    rows: list[list[str]]


class Media(NamedTuple):
    """A picture or a film (.mp4), by its path from the page, with a caption."""

    path: str
    caption: str


Block = Heading | Text | Notes | Code | Table | Media


def to_markdown(blocks: list[Block]) -> str:
    return "\n".join(_markdown(block) for block in blocks)


def _markdown(block: Block) -> str:
    match block:
        case Heading(words, level):
            return f"{'#' * level} {text.markdown(words)}\n"
        case Text(words):
            return f"{text.markdown(words)}\n"
        case Notes(words):
            plain = text.printable(words, keep="\n\t").replace("&", "&amp;").replace("<", "&lt;")
            return f"{plain.strip()}\n"
        case Code(words, language):
            return f"```{language}\n{text.code(words).strip()}\n```\n"
        case Table(header, rows):
            lines = [header, ["---"] * len(header), *rows]
            return "".join(f"| {' | '.join(map(text.markdown, line))} |\n" for line in lines)
        case Media(path, caption):
            picture = "" if path.endswith(".mp4") else "!"
            return f"{picture}[{text.markdown(caption)}]({quote(os.fsencode(path))})\n"


def to_html(title: str, blocks: list[Block]) -> str:
    """One page that needs no other file but its pictures and films."""
    head = f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{text.html(title)}</title>\n'
    body = "\n".join(_html(block) for block in blocks)
    return f"{head}<style>\n{STYLE}\n</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"


def _html(block: Block) -> str:
    match block:
        case Heading(words, level):
            return f"<h{level}>{text.html(words)}</h{level}>"
        case Text(words):
            return f"<p>{text.html(words)}</p>"
        case Notes(words) | Code(words):
            return "<pre>" + "\n".join(map(text.html, words.strip().splitlines())) + "</pre>"
        case Table(header, rows):
            lines = [(header, "th"), *((row, "td") for row in rows)]
            cells = ("".join(f"<{tag}>{text.html(cell)}</{tag}>" for cell in line) for line, tag in lines)
            return "<table>\n" + "".join(f"<tr>{line}</tr>\n" for line in cells) + "</table>"
        case Media(path, caption):
            source, words = text.html(quote(os.fsencode(path))), text.html(caption)
            film = f'<video controls src="{source}"></video>'
            shown = film if path.endswith(".mp4") else f'<img src="{source}" alt="{words}">'
            return f"<figure>{shown}<figcaption>{words}</figcaption></figure>"


def to_latex(block: Table, caption: str) -> str:
    """A table for a paper, as wide as its text. A comment and the caption say how its numbers were made."""
    lines = [" & ".join(map(text.latex, line)) + r" \\" for line in (block.header, *block.rows)]
    head = [f"% {caption}", r"% It needs \usepackage{booktabs,graphicx}.", r"\begin{table}", r"\centering"]
    head += [rf"\caption{{{text.latex(caption)}}}", r"\resizebox{\linewidth}{!}{%"]
    head += [rf"\begin{{tabular}}{{{'l' * len(block.header)}}}", r"\toprule"]
    return "\n".join([*head, lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""])


def fill(path: Path, sections: dict[str, str]) -> None:
    """Replaces what stands between the comments <!-- NAME --> and <!-- end of NAME --> of a Markdown page. UserError if
    it has no such comments."""
    page = files.read_text(path)
    for name, content in sections.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        page = f"{before}{begin}\n{content}{end}{after}" if closed else page
    if not any(f"<!-- end of {name} -->" in page for name in sections):
        wanted = " or ".join(f"'<!-- {name} -->' and '<!-- end of {name} -->'" for name in sections)
        raise UserError(f"{path} has no lines {wanted} for a table to stand between")
    files.write_text(path, page)
