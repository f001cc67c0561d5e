"""What the README and the pages of docs/ show runs, and their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from yolo_jax.cli import make_parser
from yolo_jax.networks.pretrained import PretrainedUnavailable

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def found(pattern: str) -> list:
    """Returns (page, what the pattern's group has) as parameters, each once."""
    each = {
        (page.name, text): None
        for page in PAGES
        for text in re.findall(pattern, page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    }
    return [pytest.param(text, id=f"{name}-{i}") for i, (name, text) in enumerate(each)]


EXAMPLES = found(r"^```python\n(.*?)^```")
COMMANDS = found(r"^ {4}(yolo-jax [^#\n\[\\]*)(?:#.*?)?$")


def test_there_is_something_to_run():
    assert len(EXAMPLES) >= 5
    assert len(COMMANDS) >= 40


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs(code, golden, monkeypatch):
    monkeypatch.chdir(golden)  # where the photographs are
    try:
        exec(compile(code, "an example", "exec"), {"__name__": "example"})
    except PretrainedUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one_that_the_program_takes(command):
    _, unknown = make_parser().parse_known_args(shlex.split(command)[1:])
    assert all(word.startswith("--") or i for i, word in enumerate(unknown)), unknown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [t for t in targets if "://" not in t and not (page.parent / t).exists()] == []


def test_every_page_is_in_the_contents():
    contents = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:]}
    assert pages == set(re.findall(r"[\w/]+\.md", str(contents)))


def test_the_readme_is_short():
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 250
