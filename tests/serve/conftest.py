"""A server that all tests of this folder share."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import tiny_server


class Served(NamedTuple):
    """A server of a tiny network; `folder` is where it stands and keeps what is for a while."""

    process: subprocess.Popen
    port: int
    folder: Path
    log: Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Starts the server in an empty folder, on one device."""
    folder, log = tmp_path_factory.mktemp("stands"), tmp_path_factory.mktemp("log") / "log.txt"
    places = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": places}
    script = [str(Path(tiny_server.__file__))]
    with tiny_server.served(script, log, cwd=folder, env=environment) as (process, port):
        yield Served(process, port, folder, log)
