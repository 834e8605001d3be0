"""How a process that trained under guard exits: one code an outcome, so that scripts can tell them apart."""

__all__ = [
    "BAD_INPUT",
    "CRASHED",
    "EXIT_CODES",
    "FINISHED",
    "HALTED",
    "INTERRUPTED",
    "TERMINATED",
    "UNTESTED_END",
    "exit_codes_said",
]

FINISHED, CRASHED, BAD_INPUT, HALTED, UNTESTED_END = 0, 1, 2, 3, 4
INTERRUPTED, TERMINATED = 128 + 2, 128 + 15  # as a shell tells of SIGINT and SIGTERM

EXIT_CODES = {
    FINISHED: "finished, the final weights were tested",
    CRASHED: "crashed (Python's own code)",
    BAD_INPUT: "bad input, said in one message",
    HALTED: "halted by the guard, with a checkpoint",
    UNTESTED_END: "finished, but the final weights were not tested",
    INTERRUPTED: "ended by Ctrl-C",
    TERMINATED: "ended by SIGTERM, with a checkpoint",
}
"""Of `guardrail run`, of ms-swift under guard, of `exit_code` of an attached guard and of `status --json`."""


def exit_codes_said() -> str:
    """Return the table in one line."""
    return ", ".join(f"{code} {said}" for code, said in EXIT_CODES.items())
