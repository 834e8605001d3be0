"""The guard is attached to what is on its list; everything else is refused by its own name."""

import importlib
import pkgutil
import warnings

import pytest
import transformers
import trl
from accelerate.parallelism_config import ParallelismConfig
from accelerate.utils import DistributedType

from guardrail.errors import InputError
from guardrail.recipe import read_recipe
from guardrail.trainers.attach import Guardrail
from guardrail.trainers.callback import GuardCallback
from guardrail.trainers.checks.allowed_trainers import check_kind_of_trainer, check_setup

pytestmark = [pytest.mark.trl1, pytest.mark.filterwarnings("ignore::FutureWarning")]

GKD = "trl.experimental.gkd.gkd_trainer.GKDTrainer"


@pytest.fixture(scope="module")
def shipped() -> dict[str, type]:
    """Every trainer this TRL ships that can be imported here, the experimental ones included."""
    found: dict[str, type] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        places = [importlib.import_module(f"trl.{name}") for name in ("trainer", "experimental")]
        for place in places:
            for module in pkgutil.walk_packages(place.__path__, f"{place.__name__}."):
                if module.name.endswith("_trainer"):
                    found |= trainers_of(module.name)
    return found


def trainers_of(module: str) -> dict[str, type]:
    try:
        content = vars(importlib.import_module(module))
    except ImportError:  # what it stands on is not installed here
        return {}
    return {
        f"{module}.{name}": kind
        for name, kind in content.items()
        if isinstance(kind, type)
        and issubclass(kind, transformers.Trainer)
        and kind.__module__ == module
    }


def test_sft_and_grpo_are_guarded_and_every_other_trainer_of_trl_is_refused_by_name(shipped):
    names = {name.rpartition(".")[2] for name in shipped}
    assert {"SFTTrainer", "DPOTrainer", "KTOTrainer", "RLOOTrainer", "RewardTrainer"} <= names
    assert GKD in shipped, "a trainer made from SFTTrainer"
    let_in = {f"trl.trainer.{kind}_trainer.{kind.upper()}Trainer" for kind in ("sft", "grpo")}
    assert let_in <= set(shipped)
    for name, kind in shipped.items():
        trainer = object.__new__(kind)
        if name in let_in:
            check_kind_of_trainer(trainer, "trl")
            continue
        with pytest.raises(InputError, match=rf"^{name} cannot be guarded; trl\.SFTTrainer and"):
            check_kind_of_trainer(trainer, "trl")


def test_what_a_user_makes_from_them_goes_by_what_it_is_made_from(shipped):
    class Mine(trl.SFTTrainer):
        pass

    class Distilled(shipped[GKD]):
        pass

    check_kind_of_trainer(object.__new__(Mine), "trl")
    with pytest.raises(InputError, match=rf"Distilled, made from {GKD}, cannot"):
        check_kind_of_trainer(object.__new__(Distilled), "trl")


def test_attach_refuses_a_plain_trainer_by_name(tmp_path):
    guardrail = Guardrail.from_recipe(read_recipe("toy-sft"))
    with pytest.raises(InputError, match=r"^transformers\.trainer\.Trainer cannot be"):
        guardrail.attach(object.__new__(transformers.Trainer))


def set_tensor_parallel(trainer, monkeypatch):
    trainer.model._tp_size = 2


def set_parallel(**sizes):
    def change(trainer, monkeypatch):
        config = ParallelismConfig(**sizes)
        monkeypatch.setattr(type(trainer.accelerator), "parallelism_config", config, raising=False)

    return change


def set_distributed(kind):
    def change(trainer, monkeypatch):
        monkeypatch.setattr(trainer.accelerator.state, "distributed_type", kind)

    return change


def set_processor(trainer, monkeypatch):
    trainer.processing_class = object.__new__(transformers.Gemma3Processor)


def set_data_parallel(trainer, monkeypatch):
    trainer.args._n_gpu = 2


def set_loaded_in_pieces(trainer, monkeypatch):
    trainer.is_distributed_loading_by_transformers = True


def set_guarded(trainer, monkeypatch):
    trainer.add_callback(object.__new__(GuardCallback))


SETUPS = {
    "FSDP": (set_distributed(DistributedType.FSDP), "runs under FSDP"),
    "Megatron": (set_distributed(DistributedType.MEGATRON_LM), "runs under MEGATRON_LM"),
    "tensor": (set_tensor_parallel, "tensor parallelism over 2"),
    "context": (set_parallel(cp_size=2), "context parallelism over 2"),
    "sequence": (set_parallel(sp_size=2, sp_backend="deepspeed"), "sequence parallelism over 2"),
    "vision": (set_processor, "`processing_class` is a Gemma3Processor"),
    "DataParallel": (set_data_parallel, "one process drives 2 GPUs"),
    "in pieces": (set_loaded_in_pieces, "loaded in pieces"),
    "twice": (set_guarded, "guarded already"),
}


@pytest.mark.parametrize("name", SETUPS)
def test_what_no_guarded_run_is_proven_under_is_refused(make_trainer, monkeypatch, name):
    change, said = SETUPS[name]
    trainer = make_trainer()
    check_setup(trainer, GuardCallback)
    change(trainer, monkeypatch)
    with pytest.raises(InputError, match=said):
        check_setup(trainer, GuardCallback)


def test_ddp_on_any_device_is_let_in(make_trainer, monkeypatch):
    trainer = make_trainer()
    for kind in (DistributedType.MULTI_GPU, DistributedType.MULTI_CPU, DistributedType.MULTI_NPU):
        monkeypatch.setattr(trainer.accelerator.state, "distributed_type", kind)
        check_setup(trainer, GuardCallback)
