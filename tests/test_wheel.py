"""The built wheel alone is enough: unpacked outside the repository, it finds all it ships."""

import subprocess
import sys
import zipfile

import pytest

from tests.run_fixtures import command, process, small_recipe

pytestmark = pytest.mark.run


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    built = process([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder])
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(unpacked, cwd, *args: object) -> subprocess.CompletedProcess[str]:
    return process(command(*args), cwd=cwd, PYTHONPATH=unpacked)


def test_the_wheel_has_no_other_top_level_name(unpacked):
    assert {p.name for p in unpacked.iterdir() if not p.name.endswith(".dist-info")} == {
        "guardrail"
    }
    for folder in ("recipes", "eval_sets", "rehearsal_sets", "callbacks", "launch"):
        assert (unpacked / "guardrail" / folder).is_dir()


def test_a_recipe_copied_out_of_the_wheel_runs_in_another_folder(unpacked, tmp_path):
    listed = run(unpacked, tmp_path, "recipes")
    assert "toy-sft-reckless" in listed.stdout
    assert run(unpacked, tmp_path, "recipes", "--copy", "toy-sft").returncode == 0
    checked = run(unpacked, tmp_path, "check", "toy-sft.yaml", "--json")
    assert checked.returncode == 0, checked.stderr
    where = run(unpacked, tmp_path, "report", "absent")
    assert where.returncode == 2
    recipe = small_recipe(tmp_path)
    done = run(unpacked, tmp_path, "run", recipe, "--out", "runs/one")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/one/report.html").is_file()
    told = "import guardrail; print(guardrail.__file__)"
    module = process([sys.executable, "-c", told], cwd=tmp_path, PYTHONPATH=unpacked)
    assert str(unpacked) in module.stdout
