"""The original release's JSON files: into a run folder, and a run's V, M and C out as such files.

    python -m tools.convert import --task carracing --vae vae.json --rnn rnn.json --initial-z initial_z.json \\
        --controller carracing.cma.16.64.best.json --run runs/released
    python -m tools.convert export --run runs/car --out weights

Each file is a list, read in this order; a weight w stands in it as the whole number round(10000 w):

    vae.json        kernel and bias of enc_conv1-4, enc_fc_mu, enc_fc_log_var, dec_fc, dec_deconv1-4: 22 arrays
    rnn.json        CarRacing: output_w, output_b, LSTM kernel, LSTM bias; Doom: the LSTM's before the output's
    initial_z.json  mu, logvar: each (N, Z), also times 10000; the first frames that dreams start from
    *.best.json     parameters (plain numbers, of 4 decimals; CarRacing's biases first), score (a mean return)

The LSTM's kernel is (input + units, 4 units): rows of the input (z, action, in Doom restart) before h, columns
of the gates i, j (candidate), f, o. Nothing is written unless all that was given fits; nothing is overwritten.
"""

import argparse
from pathlib import Path

from tools.release.parts import PARTS
from tools.release.transfer import export_run, import_run
from world_models import command_line
from world_models import config as configs
from world_models.config import UserError

IMPORT = """Makes a run folder of the release's files, one or more, or adds to a run that lacks them.

A new run's configuration is the task's paper preset with --pixels release; the flags below change it, and stand
as they are for later stages, if C is to be trained on, say. The paper's Doom preset has --temperature 1.15; the
release's code evolved its agent at 1.25."""

EXPORT = """Writes vae.json, rnn.json, initial_z.json and C's .best.json, whichever parts the run has."""


def parse_arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = command_line.Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{import,export}")
    given = argparse.ArgumentParser(add_help=False)
    files = given.add_argument_group("files (their format: python -m tools.convert --help)")
    for name, part in PARTS.items():
        files.add_argument(configs.flag(name), type=Path, metavar="FILE", help=part.text)
    commands.add_parser(
        "import",
        usage="python -m tools.convert import --run DIR --task TASK [--vae FILE] [--rnn FILE] [...]",
        help="JSON files into a run folder",
        description=IMPORT,
        formatter_class=raw,
        parents=[given, command_line.parser("")],
        conflict_handler="resolve",  # both have -h
    )
    giver = commands.add_parser("export", help="a run's V, M and C out as JSON files", description=EXPORT)
    giver.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run folder")
    giver.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to; made if it is new")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.command == "export":
        print(export_run(args.run, args.out))
        return
    if args.base is not None:
        raise UserError("--from: an import takes its configuration from flags, its weights from files; leave it out")
    files = {name: getattr(args, name) for name in PARTS if getattr(args, name) is not None}
    print(import_run(args.run, files, command_line.overrides(args)))


if __name__ == "__main__":
    command_line.command(main)
