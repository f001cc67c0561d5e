"""The commit of a file, and what has been changed since."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from yolo_jax.provenance.checkout import checkout_of


def git(folder: Path, *arguments: str) -> str:
    who = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who |= {f"GIT_{role}_{part}": "a@b" for role in ("AUTHOR", "COMMITTER")
            for part in ("NAME", "EMAIL")}  # fmt: skip
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(
        command, env=os.environ | who, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Returns a file that is committed, in a folder of a repository."""
    file = tmp_path / "repository" / "package" / "code.py"
    file.parent.mkdir(parents=True)
    file.write_text("one = 1\n")
    git(file.parent, "init", "--quiet", str(file.parents[1]))
    git(file.parent, "add", ".")
    git(file.parent, "commit", "--quiet", "-m", "first")
    return file


def test_a_clean_checkout_has_a_commit_and_nothing_more(file: Path):
    found = checkout_of(file)
    assert found is not None
    assert found.commit == git(file.parent, "rev-parse", "HEAD")
    assert found.root.samefile(file.parents[1])
    assert (found.diff, found.untracked, found.is_dirty) == (b"", (), False)
    (file.parents[1] / "notes.txt").write_text("of nobody's concern")
    assert checkout_of(file) == found


@pytest.mark.parametrize(
    "setting",
    ["color.diff always", "diff.noprefix true", "diff.mnemonicPrefix true", "diff.relative true"],
)
def test_changes_are_kept_as_a_patch_that_git_applies(file: Path, setting: str):
    git(file.parent, "config", *setting.split())
    (file.parents[1] / "image.bin").write_bytes(bytes(range(256)))
    git(file.parent, "add", "--all", str(file.parents[1]))
    file.write_text("one = 2\n")
    found = checkout_of(file)
    assert found is not None and found.is_dirty
    git(file.parent, "reset", "--hard", "--quiet")
    (patch := file.parents[2] / "origin.patch").write_bytes(found.diff)
    git(file.parents[1], "-c", "diff.noprefix=false", "apply", str(patch))
    assert file.read_text() == "one = 2\n"
    assert (file.parents[1] / "image.bin").read_bytes() == bytes(range(256))


def test_a_new_module_makes_it_dirty(file: Path):
    (file.parent / "more.py").write_text("")
    found = checkout_of(file)
    assert found is not None and found.is_dirty
    assert (found.diff, found.untracked) == (b"", ("more.py",))


def test_files_that_hold_secrets_stay_out_of_the_patch(file: Path):
    for name in (".env", ".env.local", "package/prod.env", "package/server.key", "package/env.py"):
        (file.parents[1] / name).write_text("of my own")
    git(file.parent, "add", "--all", "--force", str(file.parents[1]))
    found = checkout_of(file)
    assert found is not None
    named = [line for line in found.diff.decode().splitlines() if line.startswith("diff --git")]
    assert named == ["diff --git a/package/env.py b/package/env.py"]


def test_the_repository_is_the_files_own_whatever_its_names(file: Path, tmp_path, monkeypatch):
    git(tmp_path, "init", "--quiet", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    wild = tmp_path / os.fsdecode(b"of latin \xe9")
    file.parents[1].rename(wild)
    new = os.fsdecode(b"n\xe9w.py")
    (wild / "package" / new).touch()
    found = checkout_of(wild / "package" / "code.py")
    assert found is not None
    assert (found.root, found.untracked) == (wild, (new,))


def test_what_git_refuses_is_told_once(file: Path, caplog: pytest.LogCaptureFixture):
    (file.parents[1] / ".git" / "config").write_text("[core")
    for _ in range(2):
        assert checkout_of(file) is None
    (said,) = [one.getMessage() for one in caplog.records]
    assert re.search(r"package are not noted, for git refuses: .*bad config line", said)
    caplog.clear()
    assert checkout_of(file.parents[2]) is None
    assert not caplog.records


def test_what_no_checkout_has_is_of_none(file: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "lone.py").touch()
    assert checkout_of(tmp_path / "lone.py") is None
    # As of a package that is installed into an environment within somebody's repository.
    installed = file.parents[1] / "environment" / "code.py"
    installed.parent.mkdir()
    installed.touch()
    assert checkout_of(installed) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout_of(file) is None
