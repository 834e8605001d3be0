"""The guard for ms-swift: two options more and a recipe, nothing else of the command changes.

    GUARDRAIL_RECIPE=recipe.yaml swift sft ... \
        --external_plugins callbacks/swift_guardrail.py --callbacks guardrail

and the same with `swift rlhf --rlhf_type grpo`. Ledger, looks, guard state and report lie in the run's
output folder: `guardrail status output/v0-...`. Of the recipe the guard's keys count; what only
`guardrail run` uses (`trainer`, `train.data`, `train.arguments`) is ignored. `swift` exits with the codes
of `guardrail run`: 3 halted by the guard, 4 finished but not tested, 2 bad input, 143 ended by SIGTERM with a
checkpoint. With NPROC_PER_NODE torchrun makes 1 of each; `guardrail status OUT --json` has it as `exit_code`.
"""

from typing import Any

from swift.callbacks import TrainerCallback, callbacks_map

from guardrail.trainers.ms_swift.plugin import attach_swift, recipe_from_environment
from guardrail.trainers.script_output import clear_errors, exit_as_it_ended


class GuardrailCallback(TrainerCallback):
    """Attaches the guard as soon as the trainer has a model, and closes the run when it ends."""

    def __init__(self, args: Any, trainer: Any) -> None:
        """Read the recipe; a mistake in it shows before anything is trained."""
        super().__init__(args, trainer)
        with clear_errors():
            self.recipe = recipe_from_environment()

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Attach the guard, which adds a callback of its own, and let the training exit as it ended."""
        with clear_errors():
            callback = attach_swift(self.trainer, self.recipe)
        exit_as_it_ended(self.trainer, callback.course)


callbacks_map["guardrail"] = GuardrailCallback
