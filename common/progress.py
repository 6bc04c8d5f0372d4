"""Progress bars with time left: lively in a terminal, a line now and then in a log."""

import sys

from tqdm import tqdm


def bar(*args, **options) -> tqdm:
    """tqdm; in a log it writes every 30 seconds instead of ten times a second."""
    if not sys.stderr.isatty():
        options = {"mininterval": 30.0, "maxinterval": 60.0, **options}
    return tqdm(*args, dynamic_ncols=True, **options)
