"""The one error that callers act on: input a person can mend."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Something the user handed in breaks a rule.

    The message names the subject, the rule, the value received and the next step. The command line
    prints it without a traceback and exits with code 2.
    """
