"""The errors that callers act on: input a person can mend, and a training that the guard halted."""

import difflib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["HaltedByGuard", "InputError", "did_you_mean"]


class InputError(ValueError):
    """Something the user handed in breaks a rule.

    The message names the subject, the rule, the value received and the next step. The command line
    prints it without a traceback and exits with code 2.
    """


class HaltedByGuard(RuntimeError):
    """The guard halted the training, which has ended with its checkpoint on disk."""

    def __init__(self, step: int, checkpoint: Path, run: Path) -> None:
        """Keep the step, the checkpoint saved at it, and the run folder with ledger and report."""
        super().__init__(
            f"the guard halted the training at step {step}; its checkpoint is `{checkpoint}`, why stands in "
            f"`{run / 'report.html'}`"
        )
        self.step = step
        self.checkpoint = checkpoint
        self.run = run


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return a question that names the known word most like a misspelt one, with a space before it; "" for none."""
    near = difflib.get_close_matches(given, list(known), n=1)
    return f" (did you mean `{near[0]}`?)" if near else ""
