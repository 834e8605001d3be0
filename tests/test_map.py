"""The map is true: files that the docs name exist, floors are those of the linter, no two files share a name."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "guardrail"
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = {"emoji.py", "test_emoji.py", "toy-sft-short.yaml"}
"""Files that CONTRIBUTING.md tells how to add."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    named = re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|yaml))`", page.read_text(encoding="utf-8"))
    missing = [
        name
        for name in named
        if Path(name).name not in EXAMPLES
        and not any((root / name).is_file() for root in (ROOT, PACKAGE))
    ]
    assert missing == []


def test_the_floors_of_the_page_are_those_of_the_linter():
    layers = re.search(
        r"^layers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.M | re.S
    )
    held = [set(re.findall(r"guardrail\.(\w+)", line)) for line in layers[1].splitlines()]
    said = defaultdict(set)
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for floor, rooms in re.findall(r"^\| (\d+) \| (.*?) \|", page, re.M):
        said[int(floor)] |= {
            room.removesuffix(".py") for room in re.findall(r"`(\w+(?:\.py)?)/?`", rooms)
        }
    assert dict(said) == dict(enumerate(held, start=1))


def test_the_picture_has_the_imports_and_no_others():
    """Each arrow is an import between two boxes, and each such import follows from the arrows."""
    grimp = pytest.importorskip("grimp")
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    graph = grimp.build_graph("guardrail")
    rooms = {module.split(".")[1] for module in graph.modules if "." in module}
    box = {
        word: name
        for name, label in re.findall(r'^  (\w+)\["(.*?)"\]$', page, re.M)
        for word in re.findall(r"\w+", label)
        if word in rooms
    }
    arrows = set(re.findall(r"^  (\w+) --> (\w+)$", page, re.M))
    imports = {
        (box[a], box[b])
        for a in box
        for b in box
        if box[a] != box[b]
        and any(
            target.split(".")[1:2] == [b]
            for module in graph.modules
            if module.split(".")[1:2] == [a]
            for target in graph.find_modules_directly_imported_by(module)
        )
    }
    follow, size = set(arrows), 0
    while size != len(follow):
        size = len(follow)
        follow |= {(a, d) for a, b in follow for c, d in follow if b == c}
    below_all = {"shipped", "text", "files", "exit_codes", "errors", "__main__"}
    below_all |= {"read_back", "writer_lock", "redaction", "python_file"}
    assert set(box) == rooms - below_all
    assert arrows <= imports <= follow


def test_no_two_files_share_a_name():
    """But a command's file with the room it opens, and what is one thing in each trainer."""
    places = defaultdict(set)
    for path in PACKAGE.rglob("*"):
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            folder = path.parent.relative_to(PACKAGE).parts
            if path.stem != "__init__" and folder[:1] != ("cli",) and path.stem not in folder:
                places[path.stem].add("/".join(folder))
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert shared == {
        "grpo": {"trainers", "trainers/trl", "trainers/ms_swift"},
    }
