"""The commit that a file is of, by git, and what has been changed since."""

import functools
import logging
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

_log = logging.getLogger(__name__)
# As `git apply` takes it, whatever the user's own settings are.
_DIFF = (
    "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-relative",
    "--submodule=short", "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip
# A run folder is passed on: files that are likely to hold secrets stay out of its patch.
_SECRET = (".env*", "*.env", "*.pem", "*.key")


class Checkout(NamedTuple):
    """A checkout of a git repository.

    Attributes:
        root: its folder.
        commit: that is checked out.
        diff: what its files have that the commit has not, as `git apply` takes it, but for files
            that are likely to hold secrets; empty where they are as committed.
        untracked: Python files in the folder that was asked for, of which git knows nothing;
            relative to it.
    """

    root: Path
    commit: str
    diff: bytes
    untracked: tuple[str, ...]

    @property
    def is_dirty(self) -> bool:
        """Tells that something is not as committed."""
        return bool(self.diff or self.untracked)


def checkout_of(file: Path) -> Checkout | None:
    """Returns the checkout that a file is of.

    None where git is missing, the file lies in no checkout, or in one that does not have it: a
    package that is installed somewhere in a user's repository is not of that repository.

    Args:
        file: of it.
    """
    folder = file.parent
    root = _git(folder, "rev-parse", "--show-toplevel", warns=True)
    if root is None or _git(folder, "ls-files", "--error-unmatch", file.name) is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD", warns=True)
    if commit is None:
        return None
    without = [f":(top,exclude,glob)**/{pattern}" for pattern in _SECRET]
    changed = _git(folder, *_DIFF, "--", ":(top)", *without, warns=True)
    untracked = _git(folder, "ls-files", "-z", "--others", "--exclude-standard", "--", "*.py")
    return Checkout(
        Path(os.fsdecode(root.removesuffix(b"\n"))),
        commit.decode().strip(),
        changed or b"",
        tuple(os.fsdecode(name) for name in (untracked or b"").split(b"\0") if name),
    )


def _git(folder: Path, *arguments: str, warns: bool = False) -> bytes | None:
    """Returns what git prints; None where it is missing, or refuses.

    Args:
        folder: that it is called in.
        arguments: of the call.
        warns: a refusal is told, but for that of a folder of no repository.
    """
    # `GIT_DIR` and its like, as hooks have them, would be of another repository.
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith("GIT_") or name.startswith("GIT_CONFIG_")}  # fmt: skip
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            check=False,
            env=kept | {"LC_ALL": "C"},
        )
    except FileNotFoundError:
        return None
    if done.returncode == 0:
        return done.stdout
    said = " ".join(done.stderr.decode(errors="replace").split())
    if warns and "not a git repository" not in said:
        _warn_once(f"the commit or the changes of {folder} are not noted, for git refuses: {said}")
    return None


@functools.cache
def _warn_once(text: str) -> None:
    _log.warning("%s", text)
