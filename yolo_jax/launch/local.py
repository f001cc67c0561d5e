"""Several processes on this machine, with simulated devices: a pod run at home.

Each process is one of JAX's multi-controller runtime, as on a pod; they meet over loopback.
"""

import os
import signal
import subprocess
import threading
import time
from types import FrameType

from yolo_jax.launch.job import Job, as_shell_says, free_port, run_again_if_preempted

# In which the others notice by themselves that a process is gone; see `training.distributed`.
_PATIENCE_SECONDS = 60


def launch(
    job: Job, *, devices: int | None = None, restarts: int = 0, dry_run: bool = False
) -> int:
    """Runs a job's processes to their end, and prints what they do.

    SIGTERM and Ctrl-C go to all of them, and end the run for good. One that fails brings the
    others down.

    Args:
        job: to run.
        devices: simulated ones on the CPU, of each process; None: those that there are.
        restarts: times that a run which was preempted (exit status 143) is started again.
        dry_run: print the commands alone.

    Returns:
        The exit status of the first process that failed, or 0.
    """
    if dry_run:
        for extra, variables in _commands(job, devices):
            shown = " ".join(f"{name}={value!r}" for name, value in variables.items())
            print(f"{shown} {job.shown(extra)}".strip())
        return 0
    return run_again_if_preempted(lambda: _Processes(job, _commands(job, devices)).run(), restarts)


def _commands(job: Job, devices: int | None) -> list[tuple[list[str], dict[str, str]]]:
    """Returns of each process the further arguments and variables."""
    variables = {} if devices is None else simulated(devices, job.processes)
    address = f"127.0.0.1:{free_port()}"
    return [(job.joining(address, number), variables) for number in range(job.processes)]


def simulated(devices: int, processes: int = 1) -> dict[str, str]:
    """Returns the variables by which JAX simulates devices on the CPU.

    Args:
        devices: of each process.
        processes: on this machine.
    """
    flags = [os.environ.get("XLA_FLAGS", ""), f"--xla_force_host_platform_device_count={devices}"]
    if devices * processes >= (os.cpu_count() or 1):
        # Each device keeps a core busy. Operations that all of them split among all cores would
        # wait for each other: eight devices on two cores took 1.2 of the time.
        flags.append("--xla_cpu_multi_thread_eigen=false")
    return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(filter(None, flags))}


class _Processes:
    """The processes of one attempt."""

    def __init__(self, job: Job, commands: list[tuple[list[str], dict[str, str]]]) -> None:
        self._job, self._commands = job, commands
        self._stopped = False  # by a signal to this one
        self._children: list[subprocess.Popen] = []

    def run(self) -> tuple[int, bool]:
        """Starts them, and waits for the end of all.

        Returns:
            The status of the first that failed, or 0; and whether a signal to this one ended them.
        """
        passed = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
            passed.append(signal.SIGHUP)
        readers: list[threading.Thread] = []
        # First: the terminal's signals do not reach them.
        usual = {number: signal.signal(number, self._pass_on) for number in passed}
        try:
            for number, (extra, variables) in enumerate(self._commands):
                if self._stopped:
                    break
                child = self._start(extra, variables)
                self._children.append(child)
                readers.append(
                    threading.Thread(target=self._print, args=(number, child), daemon=True)
                )
                readers[-1].start()
            return self._wait(), self._stopped
        finally:
            for child in self._children:
                child.kill()
                child.wait()
            for reader in readers:
                reader.join()
            for number, handler in usual.items():
                signal.signal(number, handler)

    def _start(self, extra: list[str], variables: dict[str, str]) -> subprocess.Popen:
        return subprocess.Popen(
            self._job.command(extra),
            cwd=self._job.folder,
            env=os.environ | dict(self._job.environment) | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # What is sent to the group of this process would reach them twice.
            start_new_session=True,
        )

    def _wait(self) -> int:
        first, deadline = 0, None
        while any(child.poll() is None for child in self._children):
            failed = [child.returncode for child in self._children if child.returncode]
            if failed and deadline is None:
                first, deadline = failed[0], time.monotonic() + _PATIENCE_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                break
            time.sleep(0.05)
        failed = [child.returncode for child in self._children if child.returncode]
        status = first or (failed[0] if failed else 0)
        return as_shell_says(status)

    def _print(self, number: int, child: subprocess.Popen) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            print(f"[{number}] {line}" if len(self._commands) > 1 else line, end="", flush=True)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True
        for child in self._children:
            if child.poll() is None:
                child.send_signal(number)
