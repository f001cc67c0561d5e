"""What the README shows runs."""

import re
import shlex
from pathlib import Path

import pytest

from yolo_jax.cli import make_parser
from yolo_jax.networks.pretrained import PretrainedUnavailable

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^ {4}(yolo-jax [^#\n]*)", README, re.MULTILINE)


def test_there_is_something_to_run():
    assert EXAMPLES
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs(code, golden, monkeypatch):
    monkeypatch.chdir(golden)  # where the photographs are
    try:
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    except PretrainedUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one_that_the_program_takes(command):
    _, unknown = make_parser().parse_known_args(shlex.split(command)[1:])
    assert all(word.startswith("--") or i for i, word in enumerate(unknown)), unknown


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [t for t in targets if "://" not in t and not (ROOT / t).exists()]
    assert targets
    assert not missing
