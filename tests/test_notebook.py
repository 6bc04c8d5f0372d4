"""The notebook runs, and its outputs are what it says."""

import base64
import io
import json
import re

import nbformat
import numpy as np
from conftest import ROOT
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = ROOT / "examples" / "world_models.ipynb"
PARAMETERS = "STEPS = 1000  # of the lap"


def outputs(notebook) -> tuple[str, list[np.ndarray]]:
    """What the cells printed, and their pictures."""
    found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.text for output in found if output.output_type == "stream" and output.name == "stdout")
    encoded = [output.data["image/png"] for output in found if "image/png" in output.get("data", {})]
    return text, [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB")) for one in encoded]


def check(notebook, steps: range, least: float) -> None:
    """The lap's steps and return, V's error, the agent, and three pictures with many colors."""
    text, pictures = outputs(notebook)
    [(count, total)] = re.findall(r"^(\d+) steps, return (-?[\d.]+)$", text, re.M)
    [error] = re.findall(r"^mean squared error of a pixel: ([\d.]+)$", text, re.M)
    assert int(count) in steps and float(total) > least and 0 < float(error) < 0.005
    assert re.search(r"^best agent: \d+\.\d ± .* over 16 held-out episodes", text, re.M)
    assert len(pictures) == 3
    assert all(len(np.unique(picture.reshape(-1, 3), axis=0)) > 50 for picture in pictures)


def test_the_notebook_runs(tmp_path):
    """With a shorter lap and a shorter search."""
    notebook = nbformat.read(NOTEBOOK, 4)
    [cell] = [cell for cell in notebook.cells if PARAMETERS in cell.source]
    cell.source = f"STEPS, GENERATIONS, RUN = 120, 2, {str(tmp_path / 'run')!r}"
    client = NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": ROOT}})
    check(client.execute(), range(120, 121), 50)
    history = (tmp_path / "run/controller/history.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["generation"] for line in history] == [1, 2]


def test_the_outputs_in_the_repository_are_of_a_whole_lap():
    check(nbformat.read(NOTEBOOK, 4), range(700, 1000), 900)
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 1_500_000 and '"stderr"' not in text and not re.search(r"/(?:work|home|root|tmp)/", text)
