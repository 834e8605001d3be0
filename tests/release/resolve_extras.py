"""Build wheel and sdist, let a resolver settle every extra of the wheel anew, and install the wheel as README.md does.

`make release-check`. A resolver (uv) reads metadata alone and installs nothing; one environment is then made of README's
own line, in which a guarded run of four steps goes to its end. Takes some minutes and the package index.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
EXTRAS = {
    "trl": "3.10",
    "trl,huggingface": "3.10",
    "trl,modelscope": "3.10",
    "trl,deepspeed": "3.10",
    "trl,qlora": "3.10",
    "trl,watch": "3.10",
    "trl1": "3.11",
    "trl1,huggingface": "3.11",
    "trl1,modelscope": "3.11",
    "trl1,deepspeed": "3.11",
    "trl1,vllm": "3.11",
    "swift": "3.10",
    "swift,deepspeed": "3.10",
    "swift,vllm": "3.10",
}
"""Extras → the oldest Python they resolve for, as docs/support.md says."""
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
TOLD = ("torch", "trl", "transformers", "peft", "ms-swift", "deepspeed", "vllm")


def call(*line: object, **more: object) -> "subprocess.CompletedProcess[str]":
    print("+", *line, flush=True)
    return subprocess.run([*map(str, line)], check=True, text=True, **more)


def build(out: Path) -> Path:
    """Return the wheel, built beside the sdist."""
    call(sys.executable, "-m", "build", "--outdir", out, ROOT, stdout=subprocess.DEVNULL)
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    assert wheel.name.split("-")[1] in sdist.name
    return wheel


def resolved(wheel: Path, extras: str, python: str, folder: Path) -> dict[str, str] | None:
    """Return package → version of what a resolver takes, None where it finds nothing."""
    asked, found = folder / "asked.in", folder / "found.txt"
    asked.write_text(f"redline-guardrail[{extras}] @ {wheel.resolve().as_uri()}\n")
    found.unlink(missing_ok=True)
    line = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    line += ["--python-version", python, "--output-file", str(found), str(asked)]
    # DeepSpeed builds its operators when a run first wants one.
    done = subprocess.run(
        line, text=True, capture_output=True, check=False, env=os.environ | {"DS_BUILD_OPS": "0"}
    )
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1:], flush=True)
        return None
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", found.read_text(), re.MULTILINE))


def check_extras(wheel: Path) -> None:
    """Resolve every extra for every Python; fail where the table above is wrong."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for extras, oldest in EXTRAS.items():
            for python in PYTHONS:
                found = resolved(wheel, extras, python, Path(folder))
                told = " ".join(f"{p} {found[p]}" for p in TOLD if p in found) if found else "none"
                print(f"[{extras}] Python {python}: {told}", flush=True)
                if (found is not None) != (PYTHONS.index(python) >= PYTHONS.index(oldest)):
                    wrong.append(f"[{extras}] Python {python}")
    assert not wrong, f"EXTRAS and docs/support.md are wrong about {', '.join(wrong)}"


def check_install(out: Path) -> None:
    """Carry out README.md's line in an environment of its own, the package taken from `out`, and train with it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"pip install '(redline-guardrail\[trl\])' -c (constraints\.txt)", readme)
    assert found, "README.md has no line that installs the wheel"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        call(sys.executable, "-m", "venv", folder / "alone")
        python = folder / "alone/bin/python"
        constraints = ROOT / found[2]
        call(
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            found[1],
            "-c",
            constraints,
            "--find-links",
            out,
        )
        where = call(
            python,
            "-c",
            "import guardrail; print(guardrail.__file__)",
            cwd=folder,
            stdout=subprocess.PIPE,
        ).stdout
        assert str(folder) in where, f"another guardrail was imported: {where}"
        guardrail = folder / "alone/bin/guardrail"
        call(guardrail, "recipes", "--copy", "toy-sft", cwd=folder)
        call(guardrail, "check", "toy-sft.yaml", cwd=folder)
        few = ["train.arguments.max_steps=4", "looks.every_steps=4", "train.arguments.save_steps=4"]
        settings = [part for one in few for part in ("--set", one)]
        call(guardrail, "run", "toy-sft.yaml", "--out", "first", *settings, cwd=folder)
        assert (folder / "first/report.html").is_file()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="Where wheel and sdist go.")
    out = parser.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("*.whl"), *out.glob("*.tar.gz")]:
        old.unlink()
    wheel = build(out)
    check_extras(wheel)
    check_install(out)
    print(f"{wheel.name}: {len(EXTRAS)} sets of extras resolve, README's line trains")


if __name__ == "__main__":
    main()
