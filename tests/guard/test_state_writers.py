"""Every field of the guard's state has the one writer that the class names."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import guardrail
from guardrail.guard.state import GuardState, Seen

PACKAGE = Path(guardrail.__file__).parent
HEADING = re.compile(r"    # (\w+\.py)$")
FIELD = re.compile(r"    (\w+): ")


def named_writers() -> dict[str, str]:
    """Field → the module whose heading it stands below."""
    text = (PACKAGE / "guard/state.py").read_text(encoding="utf-8")
    found, module = {}, ""
    for line in text.partition("class GuardState")[2].partition("def spend")[0].splitlines():
        if heading := HEADING.match(line):
            module = heading[1]
        elif line.startswith("    # "):
            module = ""
        elif (field := FIELD.match(line)) and module:
            found[field[1]] = module
    return found


def writes(path: Path) -> set[str]:
    """Fields that a file assigns, or appends to, on something that is called a state."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets = []
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            targets = [node.func.value] if node.func.attr in ("append", "extend") else []
        for target in (t for whole in targets for t in ast.walk(whole)):
            if isinstance(target, ast.Attribute):
                owner = ast.unparse(target.value).split(".")[-1]
                if owner.strip("_") == "state":
                    found.add(target.attr)
    return found


def test_each_field_is_written_by_the_module_that_the_class_names():
    named = named_writers()
    own = {field.name for field in fields(GuardState)} - {field.name for field in fields(Seen)}
    assert own - set(named) == {"golds", "seconds"}
    for path in [*PACKAGE.glob("guard/*.py"), *PACKAGE.glob("trainers/**/*.py")]:
        foreign = {f for f in writes(path) & set(named) if named[f] != path.name}
        assert not foreign, f"{path.name} writes {foreign}"
    for field, module in named.items():
        assert field in writes(PACKAGE / "guard" / module), f"{module} does not write {field}"
