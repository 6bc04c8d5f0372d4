"""What tests of the page of dreams in Chromium share; its fixtures are in conftest.py."""

import io

import numpy as np
import pytest
from PIL import Image

DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
# A dream of given draws, paused: in one call, between which and the next the page's clock may run as it likes.
BEGIN = "restart(); state.dream.draws = new Draws(1); state.dream.sampleStart(); setPlaying(false)"
both_runs = pytest.mark.parametrize("name", ["doom", "carracing"])


def picture(page, selector: str = "#screen") -> np.ndarray:
    """What stands on the screen there, (H, W, 3)."""
    image = Image.open(io.BytesIO(page.locator(selector).screenshot()))
    return np.asarray(image.convert("RGB")).astype(int)
