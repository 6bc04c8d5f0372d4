"""Lists what this package offers: environments and commands.

python -m world_models
"""

import gymnasium as gym

from world_models import tasks

COMMANDS = {
    "extract.py": "records episodes",
    "train_vae.py": "trains V, the variational autoencoder, on their frames",
    "train_rnn.py": "trains M, the recurrent network, to predict the next z",
    "train_controller.py": "evolves C, the controller, in the game or in M's dream",
    "train_all.py": "runs all stages, and further rounds",
    "evaluate.py": "scores the kept agent on fresh episodes",
    "python -m tools.report": "compares runs with the published scores",
    "python -m tools.doctor": "looks for known problems in a run",
    "python -m tools.pack": "packs a run to be shared",
    "python -m tools.page": "makes a page on which dreams are played",
    "python -m tools.convert": "imports and exports the original release's weights",
}


def main() -> None:
    print("Environments (gymnasium.make):")
    for name in sorted(name for name in gym.registry if name.startswith("WorldModels/")):
        print(f"  world_models:{name}")
    print("Dreams of a run (gymnasium.make, with run=DIR; they need TensorFlow: pip install 'world-models[train]'):")
    for name in (*(task.dream_id for task in tasks.TASKS.values() if task.dream_id), "Dream-v0", "Latent-v0"):
        print(f"  doom_rnn:WorldModels/{name}")
    print("Commands, in a clone of the repository (--help explains each):")
    for name, text in COMMANDS.items():
        print(f"  {name:<26} {text}")


if __name__ == "__main__":
    main()
