"""Runs a stage that saves after every step of V's and M's training, so that a kill always leaves a checkpoint.

python tests/faults/stage.py SCRIPT [flags]
"""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[0] = str(ROOT)

if __name__ == "__main__":
    from world_models import training

    training.CHECKPOINT_SECONDS = 0
    sys.argv = [str(ROOT / sys.argv[1]), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
