"""Versions nobody tried are refused by name, or let through with a warning on request."""

import pytest

from guardrail.errors import InputError
from guardrail.recipe import read_recipe
from guardrail.trainers.attach import Guardrail
from guardrail.trainers.versions import ANY_VERSION, MS_SWIFT, TRL, check_versions


@pytest.fixture
def install(monkeypatch):
    def pretend(**versions: str) -> None:
        numbers = {name.replace("_", "-"): number for name, number in versions.items()}
        monkeypatch.setattr("guardrail.trainers.versions.version", numbers.__getitem__)

    monkeypatch.delenv(ANY_VERSION, raising=False)
    return pretend


@pytest.mark.parametrize(
    ("trl", "transformers"), [("0.29.0", "5.19.3"), ("0.29.1", "5.19.0"), ("1.16.2", "5.23.0")]
)
def test_versions_that_go_together_pass_in_silence(install, caplog, trl, transformers):
    install(trl=trl, transformers=transformers)
    check_versions(TRL)
    assert not caplog.records


@pytest.mark.parametrize(
    ("trl", "transformers"),
    [("0.29.1", "5.23.0"), ("1.16.0", "5.19.0"), ("1.17.0", "5.23.0"), ("0.28.0", "5.19.0")],
)
def test_others_are_refused_before_the_trainer_is_touched(install, trl, transformers):
    install(trl=trl, transformers=transformers)
    guardrail = Guardrail.from_recipe(read_recipe("toy-sft"))
    with pytest.raises(InputError, match=rf"trl {trl}, transformers {transformers}: not") as said:
        guardrail.attach(object())
    assert "trl from 1.16 below 1.17 with transformers from 5.23 below 5.24" in str(said.value)
    assert f"{ANY_VERSION}=1" in str(said.value)


@pytest.mark.parametrize("number", ["4.5.9", "4.7.0", "5.0"])
def test_ms_swift_has_its_own_range(install, number):
    install(ms_swift=number)
    with pytest.raises(InputError, match=r"supported is ms-swift from 4\.6 below 4\.7\."):
        check_versions(MS_SWIFT)


@pytest.mark.parametrize("supported", [TRL, MS_SWIFT], ids=["TRL", "ms-swift"])
def test_a_variable_lets_others_through_with_a_warning(install, monkeypatch, caplog, supported):
    install(trl="9.9", transformers="9.9", ms_swift="9.9")
    for value in ("0", "yes", ""):
        monkeypatch.setenv(ANY_VERSION, value)
        with pytest.raises(InputError):
            check_versions(supported)
    assert not caplog.records
    monkeypatch.setenv(ANY_VERSION, "1")
    check_versions(supported)
    assert "9.9: never tried with the guard" in caplog.text
