"""What the commands share: arguments, clear errors, JSON output, the console."""

import io
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from guardrail.errors import InputError
from guardrail.exit_codes import BAD_INPUT, CRASHED, INTERRUPTED
from guardrail.report.page.escape_controls import escape_controls
from guardrail.report.page.texts import Language
from guardrail.shipped import install_command

if TYPE_CHECKING:
    from guardrail.engines.vllm_client import VllmServer

__all__ = [
    "ConcurrencyOption",
    "JsonFlag",
    "LangOption",
    "ProbesOption",
    "RecipeArgument",
    "RunArgument",
    "ServedAsOption",
    "ServerOption",
    "SetOption",
    "answered_by",
    "asked_server",
    "clear_errors",
    "console",
    "forgive_the_terminal",
    "never_held_up",
    "print_json",
    "quiet_libraries",
    "spoken_in",
    "terminal_language",
]

console = Console(stderr=True)

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped one.")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a guarded run.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Changes a key of the recipe, for example train.data=rows.jsonl; may be repeated.",
    ),
]
ProbesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--probes",
        metavar="FILE",
        help="A file of business probes that RUN was judged by and that you trust: it is carried out, if its SHA-256 is the one in the "
        "ledger. May be repeated.",
    ),
]
LangOption = Annotated[
    Language | None,
    typer.Option(
        "--lang", help="Language of terminal and report: zh or en; by default the recipe's."
    ),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
ServerOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="A vLLM server that answers, such as http://127.0.0.1:8000."),
]
ServedAsOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The model's name there, or that of an adapter's base."),
]
ConcurrencyOption = Annotated[
    int, typer.Option(min=1, help="Requests under way at once with `--server`.")
]


TRAINING = ("accelerate", "datasets", "peft", "torch", "transformers", "trl")
"""Packages of the extra `trl`, which the package itself does not demand."""


def answered_by(served: Mapping[str, Any] | None, language: Language = "en") -> str:
    """Return in words who answered, by what manifest or ledger says of a server, and how it was proven."""
    from guardrail.live.terminal_words import terminal_words

    words = terminal_words(language)
    if served is None:
        return words("this process")
    version, name, root = (
        escape(escape_controls(str(served[key]))) for key in ("version", "name", "root")
    )
    proof = served.get("proof")
    if proof is None:
        return words(
            "vLLM {version}, which says it serves {root}; its weights were not compared",
            version=version,
            root=root,
        )
    return words(
        "vLLM {version} as {name}; {tokens} tokens scored there and here differ by {off:.1e} nats, rounding explains "
        "{noise:.1e}",
        version=version,
        name=name,
        tokens=proof["tokens"],
        off=proof["off"],
        noise=proof["noise"],
    )


def asked_server(url: str | None, served_as: str | None, concurrency: int) -> "VllmServer | None":
    """Return the server that the options name, None for none.

    Raises:
        InputError: they name a model of a server, and no server.
    """
    if url is None:
        if served_as is not None:
            raise InputError(
                "`--served-as` is a name on a server; give its address with `--server URL`"
            )
        return None
    from guardrail.engines.vllm_client import VllmServer

    return VllmServer(url, concurrency)


@contextmanager
def clear_errors(
    recipe: str | Path | None = None,
    lang: Language | None = None,
    changes: Sequence[str] | None = None,
) -> Iterator[None]:
    """Turn a user's mistake, and the absence of what training needs, into one message and exit code 2.

    Args:
        recipe: A recipe or the folder of a run, whose language the message has, above the English that can be searched for; None, and
            where neither is there: the language of this terminal.
        lang: The language asked for.
        changes: Of the recipe, as of `--set`.
    """
    try:
        yield
    except InputError as error:
        _end(str(error), error, lang or spoken_in(recipe, changes or ()))
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in TRAINING:
            raise
        _end(
            f"`{package}` is not installed, and this command needs it: {install_command('trl')}",
            error,
        )


def spoken_in(recipe: str | Path | None, changes: Sequence[str] = ()) -> Language:
    """Return the language of a recipe that may be broken, of a run, or of the newest in or beside it; else that of this terminal."""
    from guardrail.ledger.file import RESOLVED_FILE
    from guardrail.recipe_yaml import read_yaml, with_changes
    from guardrail.report.page.texts import language_of
    from guardrail.shipped import find_recipe, user_path

    if recipe is None:
        return terminal_language()
    try:
        own = user_path(str(recipe)) / RESOLVED_FILE
        if not own.is_file() and isinstance(
            recipe, Path
        ):  # a folder of runs, or one that is not there
            folder = own.parent if own.parent.is_dir() else own.parent.parent
            near = folder.glob(f"*/{RESOLVED_FILE}")
            own = max(near, key=lambda file: file.stat().st_mtime, default=own)
        content = read_yaml(own if own.is_file() else find_recipe(str(recipe)))
        return language_of(with_changes(content, changes).get("language"))
    except (InputError, OSError):
        return terminal_language()


def terminal_language() -> Language:
    """Return the language of this terminal, by its locale: Chinese where it is Chinese, else English."""
    told = os.environ.get("LC_ALL") or os.environ.get("LANG") or ""
    return "zh" if told.startswith("zh") else "en"


def _end(message: str, error: Exception, language: Language = "en") -> NoReturn:
    from guardrail.live.translated_sentences import translated

    said = translated(message, language) if language != "en" else None
    if said is not None:
        console.print(_error("错误：", said), highlight=False, soft_wrap=True)
    console.print(_error("error: ", message), highlight=False, soft_wrap=True)
    raise typer.Exit(BAD_INPUT) from error


def _error(begins: str, message: str) -> str:
    return f"[bold red]{begins}[/]{escape(escape_controls(message))}"


@contextmanager
def never_held_up() -> Iterator[None]:
    """End the process at once, with the same exit code, where W&B's own hook at exit would hang."""
    code = 0
    try:
        yield
    except BaseException as error:
        code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else CRASHED
        code = error.exit_code if isinstance(error, typer.Exit) else code
        if not isinstance(error, typer.Exit) and _tracker_hangs():
            traceback.print_exc()
        raise
    finally:
        if _tracker_hangs():
            console.print(
                "W&B did not take everything in time and is left behind; `wandb sync` in the run folder sends it"
            )
            sys.stdout.flush()
            sys.stderr.flush()
            from guardrail.track.wandb_run import end_service

            end_service()
            os._exit(code)


def _tracker_hangs() -> bool:
    module = sys.modules.get("guardrail.track.wandb_run")  # not loaded: no tracker was ever asked
    return module is not None and module.HANGS.is_set()


def print_json(value: Any) -> None:
    """Print a value as readable JSON on standard output; what a terminal might obey is escaped."""
    text = json.dumps(value, ensure_ascii=not _prints_utf8(), indent=2)
    typer.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def _prints_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def forgive_the_terminal() -> None:
    """Let a terminal that cannot show a character show a question mark instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def quiet_libraries() -> None:
    """Keep the libraries' own bars and advice out of the display."""
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
