"""A W&B workspace for guarded runs: verdict, drift by ability, levers, training, examples.

Built offline by `wandb-workspaces`; saving it is what needs the network.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.live.terminal_words import terminal_words
from guardrail.probes.metrics import METRICS
from guardrail.report.page.texts import Language
from guardrail.shipped import install_command
from guardrail.track.scalars import AGAINST_STEP

__all__ = ["save_workspace", "workspace", "write_workspace"]


def workspace(
    entity: str,
    project: str,
    abilities: Sequence[str],
    *,
    name: str = "guardrail",
    language: Language = "en",
) -> Any:
    """Return the workspace, a `wandb_workspaces.workspaces.Workspace`.

    Args:
        entity: User or team.
        project: Where the runs are.
        abilities: Of the red-line items; each gets charts of its own.
        name: What the workspace is called.
        language: Of titles and sections; the names of the series are W&B's keys in both.

    Raises:
        InputError: `wandb-workspaces` is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise InputError(
            f"the dashboard needs wandb-workspaces; run {install_command('watch')}"
        ) from error

    words = terminal_words(language)

    def plot(title: str, *names: str) -> Any:
        return panels.LinePlot(title=title, x=AGAINST_STEP, y=list(names), title_x=words("step"))

    def ours(*names: str) -> list[str]:
        return [f"guardrail/{name}" for name in names]

    groups = ["overall", *abilities]
    verdict = [
        plot(words("level: 0 ok, 1 warn, 2 serious, 3 critical; none: untested"), *ours("level")),
        plot(words("streams that could not be tested"), *ours("untested_streams")),
        plot(words("passed, now and base"), *ours("passed/overall/now", "passed/overall/base")),
        plot(
            words("harm of passed against its margin"),
            *ours("passed/overall/harm", "passed/overall/margin"),
        ),
        plot(
            words("evidence of harm against its boundaries"),
            *ours(
                "passed/overall/z", "passed/overall/boundary_warn", "passed/overall/boundary_halt"
            ),
        ),
        panels.MediaBrowser(title=words("report"), media_keys=["guardrail/report"], num_columns=1),
    ]
    drift = [
        plot(words("pass rate by ability"), *ours(*(f"passed/{group}/now" for group in groups)))
    ]
    drift += [
        plot(
            words("harm: {metric}", metric=words.name("metric", metric.name)),
            *ours(*(f"{metric.name}/{group}/harm" for group in groups)),
        )
        for metric in METRICS
    ]
    drift += [
        plot(
            words("length against base (1: as long)"),
            *ours(*(f"length_ratio/{group}" for group in groups)),
        ),
        plot(
            words("tripwire: KL on golds and on the new task"),
            *ours("tripwire/gold_kl", "tripwire/task_kl"),
        ),
    ]
    levers = [
        plot(words("KL weight"), *ours("kl/weight", "kl/weight_average", "kl/trainer_beta")),
        plot(
            words("levers, as multiples of the recipe"),
            *ours("levers/kl_boost", "levers/lr_factor"),
        ),
        plot(words("rehearsal KL, nats a token"), *ours("kl/rehearsal")),
        plot(words("injected share"), *ours("exposure/share")),
        plot(words("unique rehearsal prompts"), *ours("exposure/unique_prompts")),
        plot(words("repeats of each prompt"), *ours("exposure/repeats")),
    ]
    training = [
        plot(words("loss"), "train/loss"),
        plot(words("learning rate"), "train/learning_rate"),
        plot(words("held-out domain loss"), "eval/loss", *ours("domain_loss")),
        plot(words("what the guard costs, % of the time"), *ours("cost_percent")),
    ]
    examples = [panels.WeavePanelSummaryTable(table_name="guardrail/worst_items")]
    sections = {
        words("Verdict"): verdict,
        words("Drift by ability"): drift,
        words("Levers"): levers,
        words("Training"): training,
        words("Examples"): examples,
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[ws.Section(name=n, panels=p, is_open=True) for n, p in sections.items()],
        settings=ws.WorkspaceSettings(x_axis=AGAINST_STEP),
    )


def write_workspace(made: Any, path: Path) -> None:
    """Write the definition of a workspace as JSON, as W&B's API takes it; needs no network."""
    text = made._to_model().model_dump_json(by_alias=True)
    write_whole(path, json.dumps(json.loads(text), ensure_ascii=False, indent=1) + "\n")


def save_workspace(made: Any) -> str:
    """Save a workspace to W&B and return its address.

    Raises:
        InputError: W&B did not take it.
    """
    try:
        return str(made.save().url)
    except Exception as error:
        raise InputError(
            f"W&B did not take the workspace ({type(error).__name__}: {str(error)[:200]}); check `wandb login`, "
            "entity and project, or write it to a file with `--out FILE`"
        ) from error
