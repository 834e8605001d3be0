"""The guard for Megatron-SWIFT: read in ms-swift 4.6, run with a stand-in for Megatron alone.

    GUARDRAIL_RECIPE=recipe.yaml megatron sft ... \
        --external_plugins callbacks/megatron_guardrail.py --callbacks guardrail
    guardrail serve OUTPUT_FOLDER                      # on another GPU: it takes the looks

The recipe has `looks.engine: sidecar`. Ledger, guard state and report lie in the run's output folder. Codes are those of
`swift_guardrail.py`: 3 halted by the guard, 4 until the sidecar has judged the last weights, 2 bad input.
"""

from typing import Any

from swift.megatron.callbacks import megatron_callbacks_map
from swift.megatron.callbacks.base import MegatronCallback

from guardrail.trainers.ms_swift.attach_megatron import attach_megatron
from guardrail.trainers.ms_swift.plugin import recipe_from_environment
from guardrail.trainers.script_output import clear_errors, exit_as_it_ended


class GuardrailCallback(MegatronCallback):
    """Attaches the guard where ms-swift makes its callbacks, and hands it the trainer's events."""

    def __init__(self, trainer: Any) -> None:
        """Attach the guard; a mistake shows before anything is trained."""
        super().__init__(trainer)
        with clear_errors():
            self.guard = attach_megatron(trainer, recipe_from_environment())
        exit_as_it_ended(trainer, self.guard.course)

    def on_train_begin(self) -> None:
        """Plan the looks and ask for the one at the start."""
        self.guard.on_train_begin()

    def on_step_end(self) -> None:
        """Apply what has been answered, ask what is due, end the training where it is halted."""
        self.guard.on_step_end()

    def on_save(self, output_dir: str) -> None:
        """Ask for the look that is due at this checkpoint, and complete it."""
        self.guard.on_save(output_dir)

    def on_log(self, logs: dict[str, Any]) -> None:
        """Write the training's numbers to the ledger."""
        self.guard.on_log(logs)

    def on_train_end(self) -> None:
        """Close the run."""
        self.guard.on_train_end()


megatron_callbacks_map["guardrail"] = GuardrailCallback
