"""What the guard may be attached to: an allow-list. Everything else is refused by its own name."""

from collections.abc import Mapping
from typing import Any, NoReturn

from transformers import ProcessorMixin, TrainerCallback

from guardrail.errors import InputError

__all__ = ["check_kind_of_trainer", "check_setup", "refuse_several_gpus", "refuse_sharding"]

_TRAINERS: Mapping[str, tuple[str, ...]] = {
    "trl": ("trl.trainer.sft_trainer.SFTTrainer", "trl.trainer.grpo_trainer.GRPOTrainer"),
    "swift": (
        "swift.trainers.seq2seq_trainer.Seq2SeqTrainer",
        "swift.rlhf_trainers.grpo_trainer.GRPOTrainer",
    ),
}
"""Package → its trainers that the guard is tried with."""
_GUARDED = {
    "trl": "trl.SFTTrainer and trl.GRPOTrainer",
    "swift": "`swift sft` and `swift rlhf --rlhf_type grpo`",
}


def check_kind_of_trainer(trainer: Any, package: str) -> None:
    """Let a package's trainers on the list pass, and classes of the user's own that are made from them.

    The package's class nearest to the trainer's own decides: what TRL makes from SFTTrainer or GRPOTrainer (GKD, GOLD,
    MiniLLM, PAPO) has another loss, and so has what a user makes from that.

    Args:
        trainer: Any object.
        package: `trl` or `swift`.

    Raises:
        InputError: it is none of them.
    """
    lineage = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(trainer).__mro__]
    nearest = next((name for name in lineage if name.split(".")[0] == package), None)
    if nearest in _TRAINERS[package]:
        return
    made = "" if nearest in (None, lineage[0]) else f", made from {nearest},"
    raise InputError(
        f"{lineage[0]}{made} cannot be guarded; {_GUARDED[package]} can, and classes of your own made from "
        "them. Train with one of these, or without the guard"
    )


def check_setup(trainer: Any, callback: type[TrainerCallback]) -> None:
    """Refuse what no guarded run has been proven under: pictures, sharding, parallelism, a second guard.

    Args:
        trainer: A trainer that `check_kind_of_trainer` let pass.
        callback: The guard's; a trainer that has one is guarded already.

    Raises:
        InputError: one of these is at hand; it is named with what to do instead.
    """
    if any(isinstance(known, callback) for known in trainer.callback_handler.callbacks):
        raise InputError(
            "this trainer is guarded already, and a second guard would inject and act twice; attach once, and "
            "to run again build a trainer anew"
        )
    if isinstance(trainer.processing_class, ProcessorMixin):
        raise InputError(
            f"`processing_class` is a {type(trainer.processing_class).__name__}, which prepares pictures or sound; "
            "the guard is proven on text alone. Give the tokenizer of a text model"
        )
    accelerator = trainer.accelerator
    distributed = accelerator.distributed_type.value
    if distributed not in ("NO", "DEEPSPEED") and not distributed.startswith("MULTI_"):
        refuse_sharding(distributed)
    refuse_several_gpus(trainer.args.n_gpu)
    sizes = {
        "tensor": trainer.get_tp_size(),
        "context": trainer.get_cp_size(),
        "sequence": trainer.get_sp_size(),
    }
    for kind, size in sizes.items():
        if size > 1:
            raise InputError(
                f"{kind} parallelism over {size} processes cannot be guarded: looks and KL-only samples are not cut "
                f"over ranks. Set the {kind} parallel size to 1 and use DDP, or DeepSpeed ZeRO-2 or ZeRO-3"
            )
    if trainer.is_distributed_loading_by_transformers:
        raise InputError(
            "the model was loaded in pieces over ranks (`distributed_config` or `tp_plan` of from_pretrained), which "
            "no guarded run has been proven under; load it whole and use DDP, or DeepSpeed ZeRO-2 or ZeRO-3"
        )


def refuse_sharding(distributed: str) -> NoReturn:
    """Say that a trainer runs under something that no guarded run has been proven under.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"the trainer runs under {distributed}, which no guarded run has been proven under; use one process, "
        "DDP, or DeepSpeed ZeRO-2 or ZeRO-3"
    )


def refuse_several_gpus(count: int) -> None:
    """Refuse one process that drives several GPUs.

    Raises:
        InputError: there are several.
    """
    if count > 1:
        raise InputError(
            f"one process drives {count} GPUs (`nn.DataParallel`), which cuts the guard's own batches "
            "apart; launch with `accelerate launch` or `torchrun`, or show one GPU (CUDA_VISIBLE_DEVICES=0)"
        )
