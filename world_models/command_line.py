"""The command line: one flag for each field of Config, and how a script ends at a UserError."""

import argparse
import dataclasses
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from world_models import interruption, tasks
from world_models.config import Config, UserError, flag
from world_models.progress import close_bars, note
from world_models.runs.config_file import load
from world_models.text import printable

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """argparse's parser, which keeps the lines of its description and reports an error in one line, without usage.
    With `quiet` it prints nothing: of several ranks only the first does."""

    def __init__(self, quiet: bool = False, **options: Any):
        # Abbreviations would change their meaning with the flags that are added later.
        usual = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        spec = getattr(sys.modules["__main__"], "__spec__", None)  # of a tool: python -m NAME
        if spec is not None:
            usual["prog"] = f"python -m {spec.name.removesuffix('.__main__')}"
        super().__init__(**{**usual, **options})
        self.quiet = quiet

    def print_help(self, file: Any = None) -> None:
        if not self.quiet:
            super().print_help(file)

    def error(self, message: str) -> NoReturn:
        exit_with(UserError(f"{message} (see {self.prog} --help)"), self.quiet)


def defaults(arguments: list[str]) -> tuple[Config, str]:
    """The configuration whose values the help shows, and whose it is: the run's or, if it is new, that of --from or
    --after, or the given task's and preset's; where these are wrong, the paper's CarRacing."""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first = next(iter(tasks.TASKS))
    for name, default in {"run": "", "from": "", "after": "", "preset": "paper", "task": first}.items():
        peek.add_argument(f"--{name}", default=default)
    try:
        *folders, preset, task = vars(peek.parse_known_args(arguments)[0]).values()
        for folder in filter(None, folders):
            if (Path(folder) / "config.json").exists():
                return load(Path(folder)), folder
        return tasks.preset(tasks.named(task), preset), f"{task}, {preset}"
    except UserError:
        return tasks.preset(first, "paper"), f"{first}, paper"


def parser(text: str, quiet: bool = False, stage: tuple[str, ...] = ()) -> argparse.ArgumentParser:
    """A parser with --run, --from and one flag for each field of Config, under headings. --help shows those of `stage`,
    and --help-all the others too; with an empty `stage` --help shows all."""
    out = Parser(quiet, description=text, usage="%(prog)s --run DIR [flags]" if stage else None)
    if stage:
        words = "show this help with the flags of all stages, which a new run takes too"
        out.add_argument("--help-all", action="help", help=words)
    out.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run folder; made if it is new")
    words = "when --run is new: take another run's configuration, and its data, V and M as far as they still fit"
    out.add_argument("--from", dest="base", type=Path, metavar="DIR", help=words)
    words = (
        "when --run is new: the next round of this run. Its recordings are linked, its agent plays --episodes new "
        "ones, and its V, M and C are where training goes on from; with --episodes 0 C alone goes on"
    )
    out.add_argument("--after", type=Path, metavar="DIR", help=words)
    known = {
        "task": [*tasks.TASKS, "gymnasium:ID (any Gymnasium environment with rgb_array pictures)"],
        "view": dict.fromkeys(name for task in tasks.TASKS.values() for name in task.views),
        "policy": dict.fromkeys(name for task in tasks.TASKS.values() for name in task.policies),
    }
    values, whose = defaults(sys.argv[1:])
    fields = [item for item in dataclasses.fields(Config) if item.metadata["group"] not in ("lineage", "test")]
    headings = dict.fromkeys(item.metadata["group"] for item in fields)
    first = ("run", *stage)
    shown = first if stage and "--help-all" not in sys.argv else tuple(headings)
    for heading in sorted(headings, key=lambda name: name not in first):  # the stage's first
        title = "a new run" if heading == "run" else f"{heading} (when the run is new; defaults: {whose})"
        group = out.add_argument_group(title)
        for item in (item for item in fields if item.metadata["group"] == heading):
            words, choices = item.metadata["help"], item.metadata["choices"]
            if item.name in known:
                words += f" (one of {', '.join(known[item.name])})"
            if item.default is not dataclasses.MISSING:
                words += f" (default {getattr(values, item.name)})"
            group.add_argument(
                flag(item.name),
                type=tasks.named if item.name == "task" else item.type,
                default=argparse.SUPPRESS,
                metavar=None if choices else getattr(item.type, "__name__", "").upper(),
                choices=choices,
                help=words.replace("%", "%%") if heading in shown else argparse.SUPPRESS,
            )
    return out


def overrides(args: argparse.Namespace) -> dict:
    """The fields of Config that are given on the command line."""
    names = {item.name for item in dataclasses.fields(Config)}
    return {name: value for name, value in vars(args).items() if name in names}


def at_least(least: int) -> Callable[[str], int]:
    """The type of a flag that is an integer: `least` or more."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"expected {least} or more, got {value}")
        return value

    return number


count, seed = at_least(1), at_least(0)


def exit_with(error: UserError, quiet: bool = False) -> NoReturn:
    """Ends the process with status 2, and with the error as one line on stderr unless `quiet`."""
    if not quiet:
        report(f"error: {error}")
    raise SystemExit(2)


def report(text: str) -> None:
    """Prints a line on stderr that ends a stage."""
    close_bars()
    note(text)


def os_errors_as_user_errors(function: Callable[..., T], *args: Any) -> T:
    """`function(*args)`; a file that cannot be read or written, or a full disk, becomes a UserError."""
    try:
        return function(*args)
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        raise UserError(f"{where}{error.strerror}") from error


def start() -> None:
    """What every command begins with. Signals end it with a message. A character that the output's encoding lacks, such
    as ±, becomes a question mark instead of an error. What is printed to an output that was closed before is lost."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # else the next file had its number, and what libraries in C write there
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 open to the end
    interruption.listen()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def close_output() -> None:
    """Flushes stdout; if nobody reads it any more or its disk is full, what was printed is lost, and no more."""
    try:
        sys.stdout.flush()
    except OSError:
        # Python would flush again as it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_result(text: object) -> None:
    """Prints a line on stdout. Text from files cannot steer the terminal. The results of stages stand in files as well:
    a reader that has gone (`| head`) or a full disk behind stdout does not end a command."""
    try:
        print(printable(str(text), keep="\n\t"), flush=True)  # noqa: T201
    except OSError:
        close_output()


def command(main: Callable[[], None]) -> None:
    """Runs `main()` of a single-process script. A UserError becomes one line on stderr and exit status 2."""
    start()
    try:
        os_errors_as_user_errors(main)
    except UserError as error:
        exit_with(error)
    finally:
        close_output()
        interruption.ignore()
