"""What `guardrail demo` does when it is told to end."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.exit_codes import TERMINATED
from guardrail.run import Finished


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "stopped by SIGTERM in the unguarded half; `guardrail demo` begins anew"),
        ("zh", "收到 SIGTERM，停在“不开护栏”的那一半；再运行 `guardrail demo` 会从头开始"),
    ],
)
def test_a_sigterm_ends_the_demo_with_the_half_in_progress(
    language: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def terminated(recipe: Any, run: Path, **_: Any) -> Finished:
        begun.append(run.name)
        return Finished(run, False, TERMINATED, None, None)

    monkeypatch.setattr("guardrail.demo.run_recipe", terminated)
    ended = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--lang", language])
    assert ended.exit_code == TERMINATED
    assert begun == ["unguarded"]
    assert said in ended.output.replace("\n", "")
