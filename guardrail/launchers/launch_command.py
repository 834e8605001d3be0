"""From a recipe's `launch` section to the command line and the environment that start its training."""

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from guardrail.errors import InputError
from guardrail.guard.resume import resumed_checkpoint
from guardrail.recipe import Recipe, require_rows
from guardrail.recipe_yaml import set_options
from guardrail.trainers.ms_swift.plugin import CHANGES_VARIABLE, RECIPE_VARIABLE
from guardrail.trainers.ms_swift.swift_arguments import swift_arguments

__all__ = ["LAUNCHED", "LaunchCommand", "Node", "launch_command", "this_node"]

LAUNCHED = "GUARDRAIL_LAUNCHED"
"""Set in processes that a launcher started, which are to train and not to launch."""
_PORT = "29500"


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a run: its number, and where the first one is met."""

    rank: int = 0
    address: str = ""
    port: str = _PORT


@dataclass(frozen=True, slots=True)
class LaunchCommand:
    """What is started: a command line, and what is set in its environment beside what is there."""

    line: tuple[str, ...]
    environment: dict[str, str]

    def as_shell(self) -> str:
        """Return it as a shell takes it, an option a line."""
        parts = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        rows: list[list[str]] = [[]]
        for at, token in enumerate(self.line):
            if token.startswith("--") or (token == "-m" and at > 1):
                rows.append([])
            rows[-1].append(shlex.quote(token))
        return " \\\n".join([*parts, " ".join(rows[0]), *("  " + " ".join(r) for r in rows[1:])])


def this_node(recipe: Recipe, environment: Mapping[str, str]) -> Node:
    """Return which of the recipe's nodes this is, by NODE_RANK, MASTER_ADDR and MASTER_PORT.

    Raises:
        InputError: there are several, and a variable is missing or says something impossible.
    """
    nodes = recipe.launch.nodes
    if nodes == 1:
        return Node()
    missing = [name for name in ("NODE_RANK", "MASTER_ADDR") if not environment.get(name)]
    if missing:
        raise InputError(
            f"`launch.nodes` is {nodes}, and this one lacks {' and '.join(missing)}; set NODE_RANK to its number, 0 to "
            f"{nodes - 1}, and MASTER_ADDR to the address of node 0, as launch/slurm does"
        )
    rank = environment["NODE_RANK"]
    if not rank.isdecimal() or int(rank) >= nodes:
        raise InputError(f"NODE_RANK must be 0 to {nodes - 1}, got `{rank}`")
    return Node(int(rank), environment["MASTER_ADDR"], environment.get("MASTER_PORT", _PORT))


def launch_command(
    recipe: Recipe,
    name: str,
    run: Path,
    *,
    changes: Sequence[str] = (),
    resume: bool | str = False,
    node: Node | None = None,
) -> LaunchCommand:
    """Return the command that starts this node's processes of a training.

    Args:
        recipe: Checked, paths absolute; models may still be names of a hub.
        name: The recipe's file or shipped name, as it was typed.
        run: The run folder.
        changes: What was given as `--set`.
        resume: Go on from the newest complete checkpoint, or with a name from that one.
        node: Which machine this is, by default the only one.

    Raises:
        InputError: the recipe names no data to train on, or an ms-swift one has no checkpoint to go on from.
    """
    require_rows(recipe)
    node, launch = node or Node(), recipe.launch
    python, environment = sys.executable, dict(launch.environment)
    if recipe.launcher == "swift":
        environment |= {RECIPE_VARIABLE: _absolute(name)}
        if changes:
            environment[CHANGES_VARIABLE] = json.dumps(list(changes), ensure_ascii=False)
        if launch.processes * launch.nodes > 1:
            environment |= {"NPROC_PER_NODE": str(launch.processes)}
        if launch.nodes > 1:
            environment |= {
                "NNODES": str(launch.nodes),
                "NODE_RANK": str(node.rank),
                "MASTER_ADDR": node.address,
                "MASTER_PORT": node.port,
            }
        checkpoint = resumed_checkpoint(run, resume)
        if resume and checkpoint is None:
            raise InputError(
                f"`{run}` has no complete checkpoint to go on from; give another --out to start anew"
            )
        line = [python, "-m", "swift.cli.main", *swift_arguments(recipe, run, resume=checkpoint)]
        return LaunchCommand(tuple(line), environment)
    environment[LAUNCHED] = "1"
    training = ["guardrail", "run", name, "--out", str(run)]
    if resume:
        training += ["--resume"] if resume is True else ["--resume-from", str(resume)]
    training += set_options(changes)
    if recipe.launcher == "in process":
        return LaunchCommand((python, "-m", *training), environment)
    starter = _accelerate if recipe.launcher == "accelerate" else _torchrun
    return LaunchCommand((python, *starter(recipe, node), "-m", *training), environment)


def _torchrun(recipe: Recipe, node: Node) -> list[str]:
    launch = recipe.launch
    line = ["-m", "torch.distributed.run", "--nproc_per_node", str(launch.processes)]
    if launch.nodes == 1:
        return [*line, "--standalone"]
    line += ["--nnodes", str(launch.nodes), "--node_rank", str(node.rank)]
    return [*line, "--master_addr", node.address, "--master_port", node.port]


def _accelerate(recipe: Recipe, node: Node) -> list[str]:
    """Every value that `accelerate config` may have stored otherwise is given."""
    launch = recipe.launch
    everywhere = launch.processes * launch.nodes
    line = ["-m", "accelerate.commands.launch", "--num_processes", str(everywhere)]
    line += [
        "--num_machines",
        str(launch.nodes),
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
    ]
    if everywhere > 1:
        line += ["--multi_gpu"]
    if launch.nodes == 1:
        return [*line, "--main_process_port", "0"]
    line += ["--machine_rank", str(node.rank), "--main_process_ip", node.address]
    return [*line, "--main_process_port", node.port]


def _absolute(name: str) -> str:
    return str(Path(name).resolve()) if os.path.isfile(name) else name
