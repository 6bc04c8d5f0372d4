"""The command line: one flag for each field of Config, and how a script ends when the user made a mistake."""

import argparse
import dataclasses
import errno
import sys
from pathlib import Path

from config import Config, UserError, flag


class Parser(argparse.ArgumentParser):
    """argparse's, which keeps a docstring's lines, and says a mistake in one line instead of after all its flags."""

    def __init__(self, **options):
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def error(self, message: str):
        exit_with(UserError(f"{message} (see {self.prog} --help)"))


def parser(text: str) -> argparse.ArgumentParser:
    """A parser with --run and one flag for each field of Config, under headings."""
    out = Parser(description=text)
    out.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run folder; made if it is new")
    out.add_argument(
        "--from",
        dest="base",
        type=Path,
        metavar="DIR",
        help="when --run is new: take another run's configuration, and its data, V and M as far as they still fit",
    )
    out.add_argument(
        "--after",
        type=Path,
        metavar="DIR",
        help="when --run is new: the next round of this run. Its recordings are linked, its agent plays --episodes new "
        "ones, its V, M and C are where training goes on from",
    )
    groups = {}
    for item in dataclasses.fields(Config):
        group = item.metadata["group"]
        if group == "before":
            continue
        if group not in groups:
            groups[group] = out.add_argument_group(
                f"{group} (when the run is new; defaults: the preset's, here carracing's paper)"
            )
        groups[group].add_argument(
            flag(item.name),
            type=item.type,
            default=argparse.SUPPRESS,
            metavar=item.type.__name__.upper() if not item.metadata["choices"] else None,
            choices=item.metadata["choices"],
            help=f"{item.metadata['help']} (default {item.default})".replace("%", "%%"),
        )
    return out


def overrides(args: argparse.Namespace) -> dict:
    """The fields of Config that were given on the command line."""
    names = {item.name for item in dataclasses.fields(Config)}
    return {name: value for name, value in vars(args).items() if name in names}


def count(text: str) -> int:
    """A flag's number of things, 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


speaks = True  # whether this process tells the user; of several ranks only the first does (controller/mpi.py)


def exit_with(error: UserError) -> None:
    """The one line a user's mistake becomes."""
    if speaks:
        print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)


def told(function, *args):
    """`function(*args)`; a file that cannot be read or written, or a full disk, becomes a UserError."""
    try:
        return function(*args)
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        raise UserError(f"{where}{error.strerror}") from error


def command(main) -> None:
    """Runs `main()` of a script that is one process; a mistake of the user becomes one line and exit status 2."""
    try:
        told(main)
    except UserError as error:
        exit_with(error)
