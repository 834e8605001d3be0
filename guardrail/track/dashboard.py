"""A W&B workspace for guarded runs: verdict, drift by ability, levers, training, examples.

Built offline by `wandb-workspaces`; saving it is what needs the network.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.probes.metrics import METRICS
from guardrail.shipped import install_command
from guardrail.track.scalars import AGAINST_STEP

__all__ = ["save_workspace", "workspace", "write_workspace"]


def workspace(
    entity: str, project: str, abilities: Sequence[str], *, name: str = "guardrail"
) -> Any:
    """Return the workspace, a `wandb_workspaces.workspaces.Workspace`.

    Args:
        entity: User or team.
        project: Where the runs are.
        abilities: Of the red-line items; each gets charts of its own.
        name: What the workspace is called.

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

    def plot(title: str, *names: str) -> Any:
        return panels.LinePlot(title=title, x=AGAINST_STEP, y=list(names), title_x="step")

    def ours(*names: str) -> list[str]:
        return [f"guardrail/{name}" for name in names]

    groups = ["overall", *abilities]
    verdict = [
        plot("level: 0 ok, 1 warn, 2 serious, 3 critical; none: untested", *ours("level")),
        plot("streams that could not be tested", *ours("untested_streams")),
        plot("passed, now and base", *ours("passed/overall/now", "passed/overall/base")),
        plot(
            "harm of passed against its margin",
            *ours("passed/overall/harm", "passed/overall/margin"),
        ),
        plot(
            "evidence of harm against its boundaries",
            *ours(
                "passed/overall/z", "passed/overall/boundary_warn", "passed/overall/boundary_halt"
            ),
        ),
        panels.MediaBrowser(title="report", media_keys=["guardrail/report"], num_columns=1),
    ]
    drift = [plot("pass rate by ability", *ours(*(f"passed/{group}/now" for group in groups)))]
    drift += [
        plot(f"harm: {metric.name}", *ours(*(f"{metric.name}/{group}/harm" for group in groups)))
        for metric in METRICS
    ]
    drift += [
        plot(
            "length against base (1: as long)",
            *ours(*(f"length_ratio/{group}" for group in groups)),
        ),
        plot(
            "tripwire: KL on golds and on the new task",
            *ours("tripwire/gold_kl", "tripwire/task_kl"),
        ),
    ]
    levers = [
        plot("KL weight", *ours("kl/weight", "kl/weight_average", "kl/trainer_beta")),
        plot("levers, as multiples of the recipe", *ours("levers/kl_boost", "levers/lr_factor")),
        plot("rehearsal KL, nats a token", *ours("kl/rehearsal")),
        plot("injected share", *ours("exposure/share")),
        plot("unique rehearsal prompts", *ours("exposure/unique_prompts")),
        plot("repeats of each prompt", *ours("exposure/repeats")),
    ]
    training = [
        plot("loss", "train/loss"),
        plot("learning rate", "train/learning_rate"),
        plot("held-out domain loss", "eval/loss", *ours("domain_loss")),
        plot("what the guard costs, % of the time", *ours("cost_percent")),
    ]
    examples = [panels.WeavePanelSummaryTable(table_name="guardrail/worst_items")]
    sections = {
        "Verdict": verdict,
        "Drift by ability": drift,
        "Levers": levers,
        "Training": training,
        "Examples": examples,
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
