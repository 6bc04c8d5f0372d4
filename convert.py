"""The original release's JSON files: into a run folder, and a run's V, M and C out as such files.

    python convert.py import --task carracing --vae vae.json --rnn rnn.json --initial-z initial_z.json \\
        --controller carracing.cma.16.64.best.json --run runs/released
    python convert.py export --run runs/car --out weights

Each file is a list, read in this order; a weight w stands in it as the whole number round(10000 w):

    vae.json        kernel and bias of enc_conv1-4, enc_fc_mu, enc_fc_log_var, dec_fc, dec_deconv1-4: 22 arrays
    rnn.json        CarRacing: output_w, output_b, LSTM kernel, LSTM bias; Doom: the LSTM's before the output's
    initial_z.json  mu, logvar: each (N, Z), also times 10000; the first frames that dreams start from
    *.best.json     parameters (plain numbers, of 4 decimals; CarRacing's biases first), score (a mean return)

The LSTM's kernel is (input + units, 4 units): rows of the input (z, action, in Doom restart) before h, columns
of the gates i, j (candidate), f, o. Nothing is written unless all that was given fits; nothing is overwritten.
"""

import argparse
import dataclasses
import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import config as configs
import folder
from config import Config, UserError
from training import quiet_tensorflow, save_arrays, save_weights

SCALE = 10_000  # of a weight in JSON (get_model_params of the release)
DECIMALS = 4  # of C's parameters, which are plain numbers there (train.py)
FORGET_BIAS = 1.0  # added to the gate f when the release's LSTM runs; Keras' bias holds it

# The order in which the release's graphs made M's variables (carracing/rnn/rnn.py, doomrnn/doomrnn.py).
HEAD_FIRST = ("output_w", "output_b", "lstm_kernel", "lstm_bias")
LSTM_FIRST = ("lstm_kernel", "lstm_bias", "output_w", "output_b")
RNN_ORDERS = {"carracing": (HEAD_FIRST, LSTM_FIRST), "doom": (LSTM_FIRST, HEAD_FIRST)}

# What else must be told when an exported run is imported: JSON holds no configuration.
TOLD = ("view", "pixels", "max_frames", "z_size", "rnn_units", "mixtures", "features", "temperature")


# ---- lists of arrays, and what can be wrong with them


def parse(path: Path) -> tuple[list, str]:
    """The values of a JSON list, as far as it is whole, and what was found instead of the next ("" if it is)."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not JSON: it is not text") from None
    position = len(text) - len(text.lstrip())
    if text[position : position + 1] != "[":
        raise UserError(f"{path}: expected a JSON list, found {text[position : position + 20]!r}")
    position += 1
    decode, between, values = json.JSONDecoder().raw_decode, re.compile(r"\s*,?\s*"), []
    # Value by value, so that a file which is cut short can tell in which of its arrays.
    while text[(position := between.match(text, position).end()) : position + 1] != "]":
        try:
            value, position = decode(text, position)
        except (json.JSONDecodeError, RecursionError) as error:
            stop = getattr(error, "pos", position)
            count = len(re.findall(r"[-\d][-+.\deE]*", text[position:stop]))
            stopped = "the end of the file" if stop >= len(text.rstrip()) - 1 else f"{text[stop : stop + 20]!r}"
            return values, f"{count} numbers and then {stopped}" if count else stopped
        values.append(value)
    rest = text[position + 1 :].strip()
    return values, f"{rest[:20]!r} after the list's end" if rest else ""


def read(path: Path, *layouts: dict[str, tuple]) -> dict[str, np.ndarray]:
    """The arrays of a file, by name, float64 and as they stand there; UserError if they are not what they should be.

    Args:
        path: the file.
        layouts: names and shapes, in the file's order, None for a length that is free. Where several are given
            the file may have any: the one whose first shape is the file's, or else the first.
    """
    values, trouble = parse(path)
    layout = next((k for k in layouts if values and rows(values[0]) == next(iter(k.values()))), layouts[0])
    names = list(layout)
    count = f"{len(names)} arrays"
    if len(values) < len(names):
        name = names[len(values)]
        expected = f"{path}: {name}, number {len(values) + 1} of {count}: expected shape {shown(layout[name])}"
        raise UserError(f"{expected}, found {trouble or 'the end of the list'}")
    if trouble or len(values) > len(names):
        raise UserError(f"{path}: expected {count} and the end of the list, found {trouble or f'{len(values)} arrays'}")
    return {name: array(f"{path}: {name}", value, layout[name]) for name, value in zip(names, values, strict=True)}


def array(label: str, value, shape: tuple) -> np.ndarray:
    """A JSON value as float64 of this shape (None: any length); UserError, beginning with `label`, otherwise."""
    expected = f"{label}: expected shape {shown(shape)}"
    try:
        found = np.array(value)
    except ValueError:
        raise UserError(f"{expected}, found rows of different lengths, the first {shown(rows(value))}") from None
    if found.dtype.kind not in "iuf":
        raise UserError(f"{expected} of numbers, found shape {shown(found.shape)} with other things than numbers in it")
    if len(found.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found.shape, strict=True)):
        raise UserError(f"{expected}, found {shown(found.shape)}")
    if not np.isfinite(found).all():
        raise UserError(f"{expected} of finite numbers, found NaN or infinity")
    return found.astype(np.float64)


def read_scaled(path: Path, *layouts: dict[str, tuple]) -> dict[str, np.ndarray]:
    """As `read`, for files that hold 10000 times the numbers; float64, divided."""
    arrays = read(path, *layouts)
    for name, values in arrays.items():
        if (odd := values[values != np.rint(values)]).size:
            raise UserError(f"{path}: {name}: expected whole numbers, {SCALE} times the weights, found {odd[0]:g}")
    return {name: values / SCALE for name, values in arrays.items()}


def scaled(path: Path, arrays: dict[str, np.ndarray]) -> list:
    """Arrays as the release writes them: nested lists of round(10000 w). `path` is where they come from."""
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise UserError(f"{path}: {name}: expected finite numbers, found NaN or infinity")
    return [np.rint(np.asarray(values, np.float64) * SCALE).astype(np.int64).tolist() for values in arrays.values()]


def rows(value) -> tuple[int, ...]:
    """The shape of a nested list, judged by the first item of each level."""
    return (len(value), *rows(value[0])) if isinstance(value, list) and value else ()


def shown(shape: tuple) -> str:
    """(None, 32) -> "(N, 32)"."""
    return str(tuple("N" if n is None else n for n in shape)).replace("'", "")


# ---- the LSTM's two layouts


def to_keras(kernel, bias, inputs: int):
    """The release's LSTM as Keras has it.

    The release multiplies [x, h] by one kernel, splits the result into gates i, j, f, o and adds 1 to f
    (TensorFlow 1's LayerNormBasicLSTMCell, without its layer norm). Keras has a kernel for x and one for h,
    gates i, f, j, o, and the 1 in its bias.

    Args:
        kernel: (I + U, 4 U).
        bias: (4 U,).
        inputs: I.

    Returns:
        kernel (I, 4 U), recurrent kernel (U, 4 U), bias (4 U,).
    """
    i, j, f, o = np.split(kernel, 4, axis=1)
    kernel = np.concatenate([i, f, j, o], axis=1)
    i, j, f, o = np.split(bias, 4)
    return kernel[:inputs], kernel[inputs:], np.concatenate([i, f + FORGET_BIAS, j, o])


def to_release(kernel, recurrent, bias):
    """The inverse of `to_keras`: kernel (I + U, 4 U) and bias (4 U,), in the release's order of gates."""
    i, f, j, o = np.split(np.concatenate([kernel, recurrent]), 4, axis=1)
    kernel = np.concatenate([i, j, f, o], axis=1)
    i, f, j, o = np.split(np.asarray(bias, np.float64), 4)
    return kernel, np.concatenate([i, j, f - FORGET_BIAS, o])


# ---- the four parts: read from JSON, and taken from a run


def vae_variables(vae) -> dict:
    """V's variables by the release's names, in the order of vae.json."""
    layers = [*vae.convolutions, vae.mu, vae.logvar, vae.dense, *vae.transposed]
    return {f"{layer.name}/{kind}": getattr(layer, kind) for layer in layers for kind in ("kernel", "bias")}


def read_vae(path: Path, config: Config):
    """V with the weights of a vae.json."""
    from controller.agent import make_vae

    vae = make_vae(config)
    variables = vae_variables(vae)
    arrays = read_scaled(path, {name: tuple(variable.shape) for name, variable in variables.items()})
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return vae


def take_vae(run: Path, config: Config) -> list:
    from controller.agent import load_vae

    variables = vae_variables(load_vae(run, config))
    return scaled(run / "vae.weights.h5", {name: np.asarray(variable) for name, variable in variables.items()})


def read_rnn(path: Path, config: Config):
    """M with the weights of an rnn.json."""
    from controller.agent import make_rnn

    rnn = make_rnn(config)
    inputs, outputs = rnn.cell.kernel.shape[0], rnn.head.kernel.shape[1]
    shapes = {
        "output_w": (rnn.units, outputs),
        "output_b": (outputs,),
        "lstm_kernel": (inputs + rnn.units, 4 * rnn.units),
        "lstm_bias": (4 * rnn.units,),
    }
    arrays = read_scaled(path, *({name: shapes[name] for name in order} for order in RNN_ORDERS[config.task]))
    kernel, recurrent, bias = to_keras(arrays["lstm_kernel"], arrays["lstm_bias"], inputs)
    rnn.cell.kernel.assign(kernel)
    rnn.cell.recurrent_kernel.assign(recurrent)
    rnn.cell.bias.assign(bias)
    rnn.head.kernel.assign(arrays["output_w"])
    rnn.head.bias.assign(arrays["output_b"])
    return rnn


def take_rnn(run: Path, config: Config) -> list:
    from controller.agent import load_rnn

    rnn = load_rnn(run, config)
    lstm = to_release(*map(np.asarray, (rnn.cell.kernel, rnn.cell.recurrent_kernel, rnn.cell.bias)))
    arrays = dict(zip(HEAD_FIRST, (*map(np.asarray, (rnn.head.kernel, rnn.head.bias)), *lstm), strict=True))
    return scaled(run / "rnn.weights.h5", {name: arrays[name] for name in RNN_ORDERS[config.task][0]})


def read_controller(path: Path, config: Config) -> dict:
    """The content of controller/best.json. What the release does not tell is None."""
    from controller.agent import policy_size

    layout = {f"parameters of --features {config.features}": (policy_size(config),), "score": ()}
    parameters, score = read(path, layout).values()
    return {
        "generation": None,
        "score": float(score),
        "std": None,
        "episodes": None,
        "parameters": parameters.tolist(),
    }


def take_controller(run: Path, config: Config) -> list:
    from controller.agent import policy_size

    path = run / PARTS["controller"].place
    try:
        best = json.loads(path.read_text())
        parameters, score = best["parameters"], best["score"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not hold an agent: {error!r}") from None
    parameters = array(f"{path}: parameters", parameters, (policy_size(config),))
    return [parameters.round(DECIMALS).tolist(), float(array(f"{path}: score", score, ()))]


def read_initial_z(path: Path, config: Config) -> dict[str, np.ndarray]:
    """mu and logvar, float32 (N, Z)."""
    arrays = read_scaled(path, dict.fromkeys(("mu", "logvar"), (None, config.z_size)))
    array(f"{path}: logvar", arrays["logvar"], arrays["mu"].shape)
    return {name: values.astype(np.float32) for name, values in arrays.items()}


def take_initial_z(run: Path, config: Config) -> list:
    path = run / PARTS["initial_z"].place
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in ("mu", "logvar")}
    except Exception as error:
        raise UserError(f"{path} does not hold mu and logvar: {error}") from None
    for name, values in arrays.items():
        array(f"{path}: {name}", values, (len(arrays["mu"]), config.z_size))
    return scaled(path, arrays)


@dataclass(frozen=True)
class Part:
    """One of the release's files, and its place in a run.

    Attributes:
        place: the file in the run folder.
        text: help of its flag.
        read: read(JSON file, config) -> what `write` takes.
        write: write(that, file of the run).
        take: take(run folder, config) -> the list that JSON gets.
    """

    place: str
    text: str
    read: Callable
    write: Callable
    take: Callable


def write_best(best: dict, path: Path) -> None:
    path.write_text(json.dumps(best) + "\n")


def write_list(values: list, path: Path) -> None:
    """A line for each array."""
    lines = ",\n".join(json.dumps(value, separators=(",", ":")) for value in values)
    path.write_text(f"[\n{lines}\n]\n")


def write_arrays(arrays: dict[str, np.ndarray], path: Path) -> None:
    save_arrays(path, arrays)


PARTS = {
    "vae": Part("vae.weights.h5", "V: vae.json", read_vae, save_weights, take_vae),
    "rnn": Part("rnn.weights.h5", "M: rnn.json", read_rnn, save_weights, take_rnn),
    "controller": Part(
        "controller/best.json",
        "C: carracing.cma.16.64.best.json or doomrnn.cma.16.64.best.json",
        read_controller,
        write_best,
        take_controller,
    ),
    "initial_z": Part("initial_z.npz", "initial_z.json", read_initial_z, write_arrays, take_initial_z),
}


def json_name(name: str, config: Config) -> str:
    """A part's file name, as the release would call it: C's says the episodes a candidate and the population."""
    if name != "controller":
        return f"{name}.json"
    task = {"carracing": "carracing", "doom": "doomrnn"}[config.task]
    return f"{task}.cma.{configs.rollouts_at(config.rollouts, config.generations)}.{config.population}.best.json"


# ---- the two commands


def vacant(paths: list[Path]) -> list[Path]:
    """Returns `paths`; UserError naming the first that is there already."""
    for path in paths:
        if path.exists():
            raise UserError(f"{path} is there already and is not overwritten; move it away, or choose another folder")
    return paths


def write_all(outputs: dict[Path, tuple[Callable, object]]) -> None:
    """Writes files, {path: (write, what)}, beside their places; they move there when all are whole."""
    with ExitStack() as stack:
        for path, (write, what) in outputs.items():
            write(what, stack.enter_context(folder.whole(path)))


def settle(run: Path, given: dict, names: list[str]) -> Config:
    """The configuration of the run that parts `names` are imported to; a new run sees the release's pixels."""
    new = not (run / "config.json").exists()
    config = folder.settle(run, {"pixels": "release"} | given if new else given)
    if "vae" in names and "pixels" not in given and config.pixels != "release":
        raise UserError(
            f"{run} was made with --pixels {config.pixels}, and the release's V is used to release: choose another "
            f"--run, or say --pixels {config.pixels} if this V is not the release's"
        )
    return config


def import_run(run: Path, files: dict[str, Path], given: dict) -> str:
    """Makes or completes a run folder from JSON files, by name of part; a line that says what was done."""
    if not files:
        raise UserError(f"nothing to import: give at least one of {', '.join(map(configs.flag, PARTS))}")
    config = settle(run, given, list(files))
    places = vacant([run / PARTS[name].place for name in files])
    quiet_tensorflow()
    outputs = {
        place: (PARTS[name].write, PARTS[name].read(path, config))
        for place, (name, path) in zip(places, files.items(), strict=True)
    }
    if not (run / "config.json").exists():
        text = json.dumps(dataclasses.asdict(config), indent=1) + "\n"
        outputs[run / "config.json"] = (lambda text, path: path.write_text(text), text)
    write_all(outputs)
    missing = [name for name in ("vae", "rnn", "controller") if not (run / PARTS[name].place).exists()]
    then = f"it lacks {', '.join(missing)}" if missing else f"play it with: python evaluate.py --run {run}"
    return f"{run}: wrote {', '.join(str(path.relative_to(run)) for path in outputs)}; {then}"


def export_run(run: Path, out: Path) -> str:
    """Writes what a run has of V, M, C and initial z as JSON; lines that say what, and how to read it back."""
    config = folder.load(run)
    there = [name for name, part in PARTS.items() if (run / part.place).exists()]
    if not there:
        raise UserError(f"{run} has nothing to export: none of {', '.join(part.place for part in PARTS.values())}")
    places = vacant([out / json_name(name, config) for name in there])
    quiet_tensorflow()
    write_all({place: (write_list, PARTS[name].take(run, config)) for place, name in zip(places, there, strict=True)})
    left = [PARTS[name].place for name in PARTS if name not in there]
    usual = configs.preset(config.task, "paper")
    flags = [f"--task {config.task}"]
    flags += [
        f"{configs.flag(name)} {getattr(config, name)}"
        for name in TOLD
        if getattr(config, name) != ("release" if name == "pixels" else getattr(usual, name))
    ]
    wrote = f"{out}: wrote {', '.join(place.name for place in places)}"
    if left:
        wrote += f"; left out, as {run} does not have it: {', '.join(left)}"
    return f"{wrote}\nimport with {' '.join(flags)}"


IMPORT = """Makes a run folder of the release's files, one or more, or adds to a run that lacks them.

A new run's configuration is the task's paper preset with --pixels release; the flags below change it, and stand
as they are for later stages, if C is to be trained on, say. The paper's Doom preset has --temperature 1.15; the
release's code evolved its agent at 1.25."""

EXPORT = """Writes vae.json, rnn.json, initial_z.json and C's .best.json, whichever parts the run has."""


def parse_arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{import,export}")
    given = argparse.ArgumentParser(add_help=False)
    files = given.add_argument_group("files (their format: python convert.py --help)")
    for name, part in PARTS.items():
        files.add_argument(configs.flag(name), type=Path, metavar="FILE", help=part.text)
    commands.add_parser(
        "import",
        usage="convert.py import --run DIR --task {carracing,doom} [--vae FILE] [--rnn FILE] [...]",
        help="JSON files into a run folder",
        description=IMPORT,
        formatter_class=raw,
        parents=[given, configs.parser("")],
        conflict_handler="resolve",  # both have -h
    )
    giver = commands.add_parser("export", help="a run's V, M and C out as JSON files", description=EXPORT)
    giver.add_argument("--run", type=Path, required=True, metavar="DIR", help="the run folder")
    giver.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to; made if it is new")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    try:
        if args.command == "export":
            print(export_run(args.run, args.out))
            return
        if args.base is not None:
            raise UserError("--from: an import is told its configuration by flags, its weights by files; leave it out")
        files = {name: getattr(args, name) for name in PARTS if getattr(args, name) is not None}
        print(import_run(args.run, files, configs.overrides(args)))
    except UserError as error:
        configs.exit_with(error)
    except OSError as error:
        configs.exit_with(UserError(f"{error.filename}: {error.strerror}"))


if __name__ == "__main__":
    main()
