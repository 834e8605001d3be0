"""Probes of a run that is over: only a file that the user names, and only the very one by digest, is carried out."""

import hashlib

import pytest

from guardrail.errors import InputError
from guardrail.probes.trusted_probes import trusted_probes
from tests.data_wing.repaired_story import PRESSES

OTHER = PRESSES.replace("presses", "rushes")
NAMED = ("/theirs/presses.py", "/theirs/rushes.py")


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


RECORDED = [digest(PRESSES), digest(OTHER)]


@pytest.fixture
def given(tmp_path):
    """The two files, and one that says in a third file that it was carried out."""
    texts = {"mine.py": PRESSES, "also.py": OTHER}
    texts["strange.py"] = f"open({str(tmp_path / 'carried out')!r}, 'w')\n{PRESSES}"
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return [tmp_path / name for name in texts]


def test_the_very_files_are_taken_wherever_they_lie_in_the_order_of_the_recipe(tmp_path, given):
    probes = trusted_probes(tmp_path, NAMED, RECORDED, [given[1], given[0]])
    assert list(probes.probes) == ["presses", "rushes"]
    assert probes.sha256 == dict(zip(map(str, given[:2]), RECORDED, strict=True))


def test_another_file_is_not_carried_out_and_both_digests_are_named(tmp_path, given):
    with pytest.raises(InputError, match="is not the file") as raised:
        trusted_probes(tmp_path, NAMED, RECORDED, [given[0], given[2]])
    said = str(raised.value)
    assert RECORDED[1] in said
    assert digest(given[2].read_text(encoding="utf-8")) in said
    assert "Give the file as it was" in said
    assert not (tmp_path / "carried out").exists()


@pytest.mark.parametrize(
    ("named", "recorded", "take", "said"),
    [
        (NAMED, RECORDED, [0], "also judged by `/theirs/rushes.py`"),
        (NAMED, RECORDED, [0, 1, 2], "judged by no file with the SHA-256"),
        (NAMED, None, [0, 1], "holds no digests of its probe files"),
        (NAMED, RECORDED[:1], [0, 1], "holds no digests of its probe files"),
        (NAMED, "abc", [0, 1], "holds no digests of its probe files"),
        ((), [], [0], "leave `--probes .*mine.py` out"),
    ],
)
def test_what_does_not_fit_is_told_with_the_next_step(tmp_path, given, named, recorded, take, said):
    with pytest.raises(InputError, match=said):
        trusted_probes(tmp_path, named, recorded, [given[n] for n in take])


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.py` cannot be read"):
        trusted_probes(tmp_path, NAMED, RECORDED, [tmp_path / "absent.py"])


def test_a_run_without_probes_needs_none(tmp_path):
    assert not trusted_probes(tmp_path, (), None, []).probes
