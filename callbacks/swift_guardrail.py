"""The guard for ms-swift: two options more and a recipe, nothing else of the command changes.

    GUARDRAIL_RECIPE=recipe.yaml swift sft ... \
        --external_plugins callbacks/swift_guardrail.py --callbacks guardrail

and the same with `swift rlhf --rlhf_type grpo`. Ledger, looks, guard state and report lie in the run's
output folder: `guardrail status output/v0-...`. Of the recipe the guard's keys count; what only
`guardrail run` uses (`trainer`, `train.data`, `train.arguments`) is ignored. `swift` exits with the codes
of `guardrail run`: 3 halted by the guard, 4 finished but not tested, 2 bad input, 143 ended by SIGTERM with a
checkpoint. With NPROC_PER_NODE torchrun makes 1 of each; `guardrail status OUT --json` has it as `exit_code`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from swift.callbacks import TrainerCallback, callbacks_map
from swift.utils import get_logger

from guardrail.errors import InputError
from guardrail.exits import BAD_INPUT, FINISHED
from guardrail.trainers.ms_swift import attach_swift, recipe_from_environment
from guardrail.watch.report import build_report

logger = get_logger()


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn a user's mistake into one message and exit code 2."""
    try:
        yield
    except InputError as error:
        print(f"guardrail: error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(BAD_INPUT) from error


def _tell(record: dict[str, Any]) -> None:
    """Put what is injected, looks and what they led to into ms-swift's own log."""
    if record["kind"] == "started" and record.get("rehearsal_form"):
        logger.info(f"guardrail: KL-only samples: {record['rehearsal_form']['said']}")
    elif record["kind"] == "look":
        logger.info(f"guardrail: look at step {record['step']}: {record['level']}")
    elif record["kind"] == "action":
        done = "" if record["carried_out"] else " (watch mode: not carried out)"
        logger.info(f"guardrail: {record['action']}, {record['reason']}{done}")
    elif record["kind"] == "error":
        logger.warning(f"guardrail: the look failed, {record['then']}: {record['error']}")


class GuardrailCallback(TrainerCallback):
    """Attaches the guard as soon as the trainer has a model, and closes the run when it ends."""

    def __init__(self, args: Any, trainer: Any) -> None:
        """Read the recipe; a mistake in it shows before anything is trained."""
        super().__init__(args, trainer)
        with _clear_errors():
            self.recipe = recipe_from_environment()

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Attach the guard, which adds a callback of its own, and watch over the training itself."""
        trainer, train = self.trainer, self.trainer.train
        with _clear_errors():
            callback = attach_swift(trainer, self.recipe, _tell)
        guard = callback.guard

        def guarded_train(*args: Any, **kwargs: Any) -> Any:
            with _clear_errors():
                try:
                    output = train(*args, **kwargs)
                except BaseException as error:
                    guard.ledger.append(
                        "crashed",
                        trainer.state.global_step,
                        error=f"{type(error).__name__}: {error}"[:2000],
                        last_ok_checkpoint=callback.last_ok_checkpoint(),
                    )
                    raise
                finally:
                    if guard.ranks.writes:
                        logger.info(f"guardrail: report {build_report(guard.run)}")
            if callback.halted:
                logger.info("guardrail: HALTED, the run drifted beyond its margins")
            if callback.exit_code != FINISHED:
                raise SystemExit(callback.exit_code)
            return output

        trainer.train = guarded_train


callbacks_map["guardrail"] = GuardrailCallback
