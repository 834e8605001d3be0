"""What a TRL training would die of though each of its parts is well: rows, arguments and recipe taken together."""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from guardrail.errors import InputError
from guardrail.recipe import Recipe
from guardrail.sets.read.row_forms import split_rows
from guardrail.trainers.checks.allowed_trainers import refuse_several_gpus, refuse_sharding
from guardrail.trainers.checks.trainer_fits_recipe import check_grpo_keys
from guardrail.trainers.grpo.choice import Form
from guardrail.trainers.trl.grpo_mixing import fewest_prompts, refuse_few_prompts
from guardrail.trainers.trl.trl_seam import require_thinking

__all__ = ["check_grpo_plan", "check_training_plan"]


def check_training_plan(recipe: Recipe, arguments: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse rows that do not go with the arguments, and what no guarded run has been proven under.

    Args:
        recipe: Checked.
        arguments: Read by the trainer's own class, as the ranks will read them.
        rows: Of the training; none where a script brings them.

    Raises:
        InputError: of these.
    """
    if arguments.fsdp:
        refuse_sharding("FSDP")
    if recipe.launcher == "in process" and "LOCAL_RANK" not in os.environ:
        refuse_several_gpus(arguments.n_gpu)
    if not rows:
        return
    train, held_out = split_rows(rows, recipe.train.held_out)
    evaluates = str(getattr(arguments.eval_strategy, "value", arguments.eval_strategy)) != "no"
    if evaluates and not held_out:
        why = "GRPO holds none out" if recipe.trainer == "trl-grpo" else f"`train.held_out` {recipe.train.held_out:g} of {len(rows)} holds none out"  # fmt: skip
        raise InputError(
            f"`train.arguments.eval_strategy` needs rows to evaluate on, and {why}; leave it away, or hold more out"
        )
    if recipe.trainer == "trl-grpo":
        return
    batch = arguments.per_device_train_batch_size * recipe.launch.processes * recipe.launch.nodes
    if arguments.dataloader_drop_last and len(train) < batch and not arguments.packing:
        raise InputError(
            f"training data `{recipe.train.data}` has {len(train)} rows, a batch takes {batch}, and "
            "`train.arguments.dataloader_drop_last` leaves out what does not fill one: no step would be made; leave it "
            "away, or lower `per_device_train_batch_size`"
        )
    _check_form(arguments, rows[0])


def _check_form(arguments: Any, row: Mapping[str, Any]) -> None:
    """Refuse losses and columns that the rows' form has not, as SFTTrainer does when it meets them."""
    name = "prompt and completion" if row.get("messages") is None and row.get("prompt") is not None else "messages"  # fmt: skip
    if row.get("messages") is None and row.get("prompt") is None:
        name = "text"
    if arguments.completion_only_loss and name != "prompt and completion":
        raise InputError(
            f"`train.arguments.completion_only_loss` is for rows with prompt and completion, and these have {name}; leave it away"
            + (", or set `assistant_only_loss`" if name == "messages" else "")
        )
    plain = name == "text" or isinstance(row.get("prompt"), str)
    if arguments.assistant_only_loss and plain:
        raise InputError(
            f"`train.arguments.assistant_only_loss` is for chats, and the rows have {name} as plain text; leave it away, or give "
            "them as `messages`"
        )
    if name == "text" and arguments.dataset_text_field != "text":
        raise InputError(
            f"`train.arguments.dataset_text_field` is `{arguments.dataset_text_field}`, and the rows' text stands in `text`; "
            "leave it away"
        )
    if arguments.packing and arguments.max_length is None:
        raise InputError(
            "`train.arguments.packing` fills sequences up to `max_length`, which is null; set it"
        )


def check_grpo_plan(recipe: Recipe, arguments: Any, prompts: int, form: Form | None) -> None:
    """Refuse settings of GRPO that its trainer, or the guard when it joins it, would refuse with the model loaded.

    Args:
        recipe: Checked.
        arguments: Read by GRPOConfig, as the ranks will read them.
        prompts: How many rows there are; 0 where a script brings them.
        form: Of the KL-only samples; None where none are injected.

    Raises:
        InputError: of these.
    """
    check_grpo_keys(recipe, arguments, beta=arguments.beta)
    if arguments.use_vllm and find_spec("vllm") is None:
        raise InputError(
            "`train.arguments.use_vllm` needs vLLM, which is not installed; install it, or leave the key away"
        )
    weights, rewards = arguments.reward_weights, recipe.train.rewards
    if weights is not None and rewards and len(weights) != len(rewards):
        raise InputError(
            f"`train.arguments.reward_weights` has {len(weights)} weights for {len(rewards)} `train.rewards`; give one each"
        )
    among_rollouts = form is not None and form.name != "anchored"
    if among_rollouts:
        require_thinking(recipe, arguments.chat_template_kwargs or {})
    batch = arguments.generation_batch_size // arguments.num_generations
    fraction = recipe.rehearsal.fraction if among_rollouts else 0.0
    if prompts and prompts < fewest_prompts(batch, fraction):
        refuse_few_prompts(prompts, batch)
