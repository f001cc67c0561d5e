"""Feeds one parser for a while: `python tests/fuzz TARGET --minutes 5`.

By coverage where atheris is installed (`pip install atheris==3.0.0`, for Linux), else by changes
of valid files alone. What the parser fails at is stored; the exit status is 1 then.
"""

import argparse
import hashlib
import logging
import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None

if atheris is None:
    from targets import TARGETS
else:
    with atheris.instrument_imports(include=["yolo_jax"]):
        from targets import TARGETS

from mutations import mutated
from places import clear

SECONDS = 5  # that an input may take
MEMORY = 2**30  # bytes that the process may grow by
CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / "build" / "fuzz"


class TooLong(BaseException):
    """An input took too long; nothing that a parser expects."""


class Campaign:
    """Feeds inputs to a target until its time is up, and counts.

    Args:
        name: of the target.
        minutes: that it takes.
    """

    def __init__(self, name: str, minutes: float) -> None:
        self.name, self.target = name, TARGETS[name]
        self.seeds = self.target.seeds()
        for seed in self.seeds:
            self.target.read(seed)  # and all that is made once
        self.inputs, self.slowest, self.failures = 0, 0.0, {}
        self.before = _peak()
        self.start = time.monotonic()
        self.end = self.start + 60 * minutes
        signal.signal(signal.SIGALRM, _too_long)

    def feed(self, data: bytes) -> None:
        """Has an input read; at the end of the time tells of all, and ends the process."""
        begin = time.process_time()  # other processes take their turns
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            self.target.read(data)
            grown = _peak() - self.before
            if grown > MEMORY:
                self.before += grown
                raise MemoryError(f"{grown >> 20} MiB more than before")
        except (Exception, TooLong) as error:
            self._keep(data, error)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.inputs += 1
        self.slowest = max(self.slowest, time.process_time() - begin)
        now = time.monotonic()
        if now > self.end:
            self._tell(now - self.start)

    def _keep(self, data: bytes, error: BaseException) -> None:
        """Stores an input, the first and then the shortest of those that fail at one place."""
        told = traceback.format_exception(error)
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename.startswith(str(CHECKOUT))]
        where = type(error), own[-1].filename, own[-1].lineno
        if where in self.failures and len(self.failures[where]) <= len(data):
            return
        if where not in self.failures:
            print(f"--- {self.name} failed at {data[:2000]!r}\n{''.join(told)}", flush=True)
        self.failures[where] = data

    def _tell(self, seconds: float) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        for data in self.failures.values():
            path = FOLDER / f"{self.name}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            print(f"stored {path}")
        print(
            f"{self.name}: {self.inputs} inputs in {seconds:.0f} s, {self.inputs / seconds:.0f} a "
            f"second, by {'coverage' if atheris else 'changes'}; the slowest took "
            f"{1000 * self.slowest:.0f} ms of CPU; at most {_peak() >> 20} MiB, "
            f"{(_peak() - self.before) >> 20} more than before; {len(self.failures)} failures",
            flush=True,
        )
        clear()
        os._exit(bool(self.failures))  # libFuzzer would go on


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB on Linux


def _too_long(*_: object) -> None:
    raise TooLong(f"it took more than {SECONDS} s")


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser("python tests/fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable()  # what readers say of bad records
    warnings.simplefilter("ignore")  # and Pillow of odd files
    warnings.filterwarnings("error", module="yolo_jax")  # as in the tests
    campaign = Campaign(options.target, options.minutes)
    seeds = campaign.seeds
    if atheris is None:
        draw = random.Random(options.seed)
        while True:
            campaign.feed(mutated(draw.choice(seeds), draw, seeds))

    def changed(data: bytes, most: int, seed: int) -> bytes:
        """Changes an input now as libFuzzer does, now by words and numbers."""
        draw = random.Random(seed)
        if draw.random() < 0.3:
            return atheris.Mutate(data, most)
        if draw.random() < 0.1:
            data = draw.choice(seeds)
        return mutated(data, draw, seeds)[:most]

    corpus = (
        FOLDER / "corpus" / options.target
    )  # what a run finds new ways with, the next starts from
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"valid_{number}").write_bytes(seed)
    libfuzzer = [sys.argv[0], str(corpus), "-max_len=20000", "-timeout=0", "-rss_limit_mb=0"]
    atheris.Setup([*libfuzzer, "-verbosity=0"], campaign.feed, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
