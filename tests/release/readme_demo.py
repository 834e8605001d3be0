"""Put what `guardrail demo` printed into docs/demo.txt and from there into both READMEs, so that nobody types its figures.

`make readme-demo` runs the demo and this. docs/demo.txt is sealed, with a SHA-256 of itself and one of what the demo is made
from: a figure that was typed, in the file or in a README, and a toy that has changed since fail tests/release/test_readme_demo.py.
"""

import hashlib
import re
import sys
from pathlib import Path

__all__ = ["block", "sealed_text", "written_into"]

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "docs/demo.txt"
READMES = (ROOT / "README.md", ROOT / "README_zh.md")
MADE_FROM = (
    "recipes/toy-sft.yaml",
    "recipes/toy/collections.jsonl",
    "recipes/toy/base/model.safetensors",
    "eval_sets/toy-redline-300/items.jsonl",
    "rehearsal_sets/toy-general/items.jsonl",
)
_MARKED = re.compile(r"(<!-- demo: [^>]*-->\n```\n).*?(```\n<!-- /demo -->)", re.DOTALL)


def toy_sha256() -> str:
    """Return one digest of all that the demo is made from."""
    parts = (hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in MADE_FROM)
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def tidied(printed: str) -> str:
    """Return what the demo printed without the making of anchors, signs of life, and this machine's folders."""
    table, report, path = printed.partition("Report: ")
    lines = [line.rstrip() for line in table.strip("\n").splitlines()]
    kept = [line for line in lines if not line.startswith(("  anchors: ", "answering: "))]
    where = re.search(r"runs/\S+", "".join(path.split()))
    end = [report + (where[0] if where else "")] if report else []
    return "\n".join([*kept, *end]) + "\n"


def sealed_text(printed: str) -> str:
    """Return the content of docs/demo.txt."""
    text = tidied(printed)
    seal = hashlib.sha256(text.encode()).hexdigest()
    return f"# written by `make readme-demo`\n# of the toy {toy_sha256()}\n# sealed {seal}\n{text}"


def block(content: str) -> str:
    """Return what stands in the READMEs, of docs/demo.txt as it is.

    Raises:
        ValueError: it was edited, or the toy has changed since.
    """
    head, text = content.splitlines()[:3], "".join(content.splitlines(keepends=True)[3:])
    if head[2] != f"# sealed {hashlib.sha256(text.encode()).hexdigest()}":
        raise ValueError("docs/demo.txt was edited by hand; run `make readme-demo`")
    if head[1] != f"# of the toy {toy_sha256()}":
        raise ValueError("the toy has changed since docs/demo.txt; run `make readme-demo`")
    return text


def written_into(readme: str, text: str) -> str:
    """Return a README with the text in its marked block.

    Raises:
        ValueError: it has no such block, or several.
    """
    found, count = _MARKED.subn(lambda marks: marks[1] + text + marks[2], readme)
    if count != 1:
        raise ValueError(f"a README has one marked block, this one {count}")
    return found


def main(printed: Path) -> None:
    """Write docs/demo.txt and both READMEs from what the demo printed."""
    content = sealed_text(printed.read_text(encoding="utf-8"))
    OUTPUT.write_text(content, encoding="utf-8")
    for path in READMES:
        readme = path.read_text(encoding="utf-8")
        path.write_text(written_into(readme, block(content)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
