"""The files of a run folder: their only list. Messages, provenance, packing and docs/files.md derive from it."""

from dataclasses import dataclass
from pathlib import Path

EPISODE = "{:06d}.npz"  # an episode's file name in record/ and held_out/
BEFORE = "before"  # the folder that holds the V, M and C of the round before, and the records of all rounds
AGENTS = "agents"  # the folder with the runs of further agents on the same V and M
SEARCHES = {"return": "controller", "surprise": "curious"}  # the folder of a search, by what C is evolved for


@dataclass(frozen=True)
class Artifact:
    """A file, or a folder of files of one kind, in a run folder."""

    name: str  # its path in the run folder; it may hold *
    what: str  # what it is, in messages
    made_by: str  # the command that makes it
    text: str  # what it holds, in docs/files.md
    needs: tuple[str, ...] = ()  # the artifacts that it is made from
    settings: tuple[str, ...] = ()  # the settings that it depends on: names of their groups, or of single settings
    recorded: bool = True  # whether manifest.json has a row for it, so that it is checked when it is read
    packed: bool = False  # whether a pack contains it

    def command(self, run: Path) -> str:
        """The command line that makes it in `run`."""
        return f"python {self.made_by} --run {run}"


DATA = ("environment", "data", "lineage", "round")
MODELS = ("vae.weights.h5", "rnn.weights.h5")
V, M = MODELS

ARTIFACTS = {
    artifact.name: artifact
    for artifact in (
        Artifact("config.json", "the settings", "extract.py", "every setting of the run", packed=True),
        Artifact("manifest.json", "the manifest", "extract.py", "a row for each file: SHA-256, the digests of what it "
            "was made from, its settings, the command, the commit, the seconds and the machine", recorded=False,
            packed=True),
        Artifact("record", "the recordings", "extract.py", "an episode a file, NNNNNN.npz: obs uint8 (T, 64, 64, 3), "
            "action float32 (T, A), reward float32 (T,), end int64 (), source (JSON)", settings=DATA),
        Artifact("held_out", "the held-out episodes", "extract.py --held-out N", "episodes of the run's own agent that "
            "V and M do not learn from", recorded=False),
        Artifact("held_out/errors.json", "the held-out errors", "train_all.py", "errors of V and M on these episodes",
            recorded=False),
        Artifact(V, "V", "train_vae.py", "V's Keras weights", ("record",), ("V",), packed=True),
        Artifact("vae.checkpoint.npz", "V's training", "train_vae.py", "V's weights and optimizer during its training",
            ("record",), ("V",)),
        Artifact("series.npz", "the latents", "train_rnn.py", "mu and logvar float16 (N, Z), action float32 (N, A), "
            "reward float32 (N,), ends and lengths int64 (E,)", ("record", V), ("mirror",)),
        Artifact("initial_z.npz", "the first frames", "train_rnn.py", "mu and logvar float32 (N, Z) of recorded first "
            "frames, where dreams start", (V,), ("initial_frames",), packed=True),
        Artifact(M, "M", "train_rnn.py", "M's Keras weights", (V, "series.npz"), ("M",), packed=True),
        Artifact("rnn.checkpoint.npz", "M's training", "train_rnn.py", "M's weights and optimizer during its training",
            (V, "series.npz"), ("M",)),
        *(
            artifact
            for folder, flag in (("controller", ""), ("curious", " --objective surprise"))
            for artifact in (
                Artifact(f"{folder}/best.json", "the kept agent", f"train_controller.py{flag}", "the agent that scored "
                    "best on fresh episodes: parameters, score, std, episodes, generation", MODELS, ("C",),
                    packed=True),
                Artifact(f"{folder}/history.jsonl", "the search's history", f"train_controller.py{flag}",
                    "a line for each generation", MODELS, ("C",), packed=True),
                Artifact(f"{folder}/checkpoint.npz", "the search", f"train_controller.py{flag}",
                    "the whole state of the search", MODELS, ("C",)),
            )
        ),
        Artifact("results.json", "the test results", "evaluate.py",
            "every test: settings, statistics, seeds and returns", packed=True),
        Artifact("results.partial/*", "a test's finished episodes", "evaluate.py", "the finished episodes of a test "
            "that is not complete, a file of each rank", recorded=False),
        Artifact("metrics.jsonl", "the learning curves", "train_vae.py", "losses of V and M", recorded=False,
            packed=True),
        Artifact("tensorboard", "the curves", "train_vae.py", "the same curves for TensorBoard", recorded=False),
        Artifact("pictures/*.png", "a picture", "evaluate.py", "reconstructions, dreams, ends of episodes",
            recorded=False, packed=True),
        Artifact("videos/*.mp4", "a film", "evaluate.py", "the best, median and worst test episode, and dreams",
            recorded=False, packed=True),
        Artifact(f"{BEFORE}/*", "the round before", "extract.py --after DIR", "a run folder: settings, weights and "
            "kept agents of the round before; its own before/ has the records of the rounds before that",
            recorded=False, packed=True),
        Artifact(f"{AGENTS}/*", "an agent", "train_controller.py --vary",
            "a run folder for each further agent on V and M", recorded=False, packed=True),
        Artifact("notes.md", "notes", "your editor", "your own text for the model card", recorded=False, packed=True),
        Artifact("README.md", "the model card", "tools.pack", "the model card of a pack", recorded=False, packed=True),
        Artifact(".lock", "the lock", "every stage", "the command that works in the folder", recorded=False),
    )
}  # fmt: skip
# The records of a run that a later round keeps, in addition to the weights of the round just before.
RECORDS = (
    *("config.json", "manifest.json", "metrics.jsonl", "results.json", "notes.md"),
    *(f"{folder}/{name}" for folder in SEARCHES.values() for name in ("best.json", "history.jsonl")),
)


def settings_of(*names: str) -> tuple[str, ...]:
    """The groups and settings that artifacts depend on, through all that they are made from."""
    found: dict[str, None] = {}
    for name in names:
        artifact = ARTIFACTS[name]
        found |= dict.fromkeys((*settings_of(*artifact.needs), *artifact.settings))
    return tuple(found)
