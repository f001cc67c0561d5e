"""The commit that a file is of, by git, and what has been changed since."""

import subprocess
from pathlib import Path
from typing import NamedTuple


class Checkout(NamedTuple):
    """A checkout of a git repository.

    Attributes:
        root: its folder.
        commit: that is checked out.
        diff: what its files have that the commit has not, as `git apply` takes it; empty where
            they are as committed.
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
    found = _git(folder, "rev-parse", "HEAD", "--show-toplevel")
    if found is None or _git(folder, "ls-files", "--error-unmatch", file.name) is None:
        return None
    commit, root = found.decode().splitlines()
    changed = _git(folder, "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff")
    untracked = _git(folder, "ls-files", "--others", "--exclude-standard", "--", "*.py")
    return Checkout(
        Path(root), commit, changed or b"", tuple((untracked or b"").decode().splitlines())
    )


def _git(folder: Path, *arguments: str) -> bytes | None:
    """Returns what git prints; None where it is missing, or refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
