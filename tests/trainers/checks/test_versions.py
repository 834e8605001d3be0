"""Versions older than any that was tried are refused by name; newer ones are let in with a warning."""

import pytest

from guardrail.errors import InputError
from guardrail.recipe import read_recipe
from guardrail.trainers.attach import Guardrail
from guardrail.trainers.checks.versions import MS_SWIFT, TRL, check_versions, untried


@pytest.fixture
def install(monkeypatch):
    def pretend(**versions: str) -> None:
        numbers = {name.replace("_", "-"): number for name, number in versions.items()}
        monkeypatch.setattr("guardrail.trainers.checks.versions.version", numbers.__getitem__)

    return pretend


@pytest.mark.parametrize(
    ("trl", "transformers"), [("0.29.0", "5.19.3"), ("0.29.1", "5.19.0"), ("1.16.2", "5.23.0")]
)
def test_versions_that_go_together_pass_in_silence(install, caplog, trl, transformers):
    install(trl=trl, transformers=transformers)
    check_versions(TRL)
    assert not caplog.records
    assert untried(TRL) == ""


@pytest.mark.parametrize(
    ("trl", "transformers"),
    [("0.29.1", "5.23.0"), ("1.16.0", "5.19.0"), ("1.3.0", "5.20.0"), ("1.17.0", "5.23.0")],
)
def test_newer_ones_are_let_in_with_a_warning(install, caplog, trl, transformers):
    install(trl=trl, transformers=transformers)
    check_versions(TRL)
    assert f"trl {trl}, transformers {transformers}: newer than what the guard" in caplog.text
    assert untried(TRL) == f"trl {trl}, transformers {transformers}"


@pytest.mark.parametrize(
    ("trl", "transformers", "old"),
    [("0.28.0", "5.19.0", "trl 0.28.0"), ("1.16.0", "4.57.1", "transformers 4.57.1")],
)
def test_older_ones_are_refused_before_the_trainer_is_touched(install, trl, transformers, old):
    install(trl=trl, transformers=transformers)
    guardrail = Guardrail.from_recipe(read_recipe("toy-sft"))
    with pytest.raises(InputError, match=f"^{old} is too old to be guarded") as said:
        guardrail.attach(object())
    assert "trl from 1.16 below 1.17 with transformers from 5.23 below 5.24" in str(said.value)


def test_ms_swift_has_its_own_range(install, caplog):
    install(ms_swift="4.5.9")
    with pytest.raises(InputError, match=r"supported is ms-swift from 4\.6 below 4\.7\."):
        check_versions(MS_SWIFT)
    install(ms_swift="4.7.0")
    check_versions(MS_SWIFT)
    assert "ms-swift 4.7.0: newer than" in caplog.text
