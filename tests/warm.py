"""Runs scripts in processes forked from one that has imported the libraries.

To import TensorFlow takes seconds of a core, and the suite starts hundreds of commands. A fork begins where these are
imported but nothing of them has run yet; from there on it is what `python SCRIPT` is: its own arguments, folder,
environment, streams and exit status.

    python tests/warm.py     requests on stdin, a JSON line each; exit statuses on stdout
"""

import json
import os
import subprocess
import sys
from pathlib import Path


class Warm:
    """The process that forks; started when it is first asked."""

    def __init__(self):
        self.process = None

    def run(self, command: list[str], cwd: Path, out: Path, err: Path, env: dict[str, str]) -> int:
        """Runs [script or "-m", ...] with its streams into files; returns its exit status, -N for signal N."""
        if self.process is None or self.process.poll() is not None:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True)
        request = {"command": command, "cwd": str(cwd), "out": str(out), "err": str(err), "env": env}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


def become(request: dict) -> None:
    """In the fork: takes what the request says for its own."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    null = os.open(os.devnull, os.O_RDONLY)
    files = [os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in ("out", "err")]
    for number, file in enumerate((null, *files)):
        os.dup2(file, number)
        os.close(file)


def serve() -> dict:
    """Forks for each request and writes the fork's exit status; returns the request, in the fork."""
    requests, statuses = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    for line in requests:
        child = os.fork()
        if child == 0:
            requests.close()
            statuses.close()
            request = json.loads(line)
            become(request)
            return request
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, file=statuses, flush=True)
    os._exit(0)


if __name__ == "__main__":
    import runpy

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    import imageio  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import numba  # noqa: F401
    import tensorflow  # noqa: F401
    import vizdoom  # noqa: F401

    asked = serve()
    # As python has it: the script's folder first, or with -m the working one.
    first, *rest = asked["command"]
    if first == "-m":
        sys.path[0], sys.argv = asked["cwd"], rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = str(Path(first).parent), asked["command"]
        runpy.run_path(first, run_name="__main__")
