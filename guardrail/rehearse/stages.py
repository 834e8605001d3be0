"""The stages of a rehearsal, carried out one after the other: anchors, start, kill, resume, halt."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from guardrail.exit_codes import HALTED
from guardrail.guard.resume import checkpoint_step, last_complete_checkpoint
from guardrail.guard.state import STATE_FILE, read_state
from guardrail.judge.look_values import answers_file
from guardrail.ledger.file import Record
from guardrail.rehearse.command import CommandResult, failure_reason, run_command
from guardrail.rehearse.small_run import EVERY_STEPS, training_line
from guardrail.rehearse.stage_results import (
    STAGES,
    StageResult,
    attached,
    figure,
    injected,
    look_zero,
    records_of,
    saved_with_a_look,
    stepped,
)
from guardrail.trainers.ms_swift.plugin import RECIPE_VARIABLE

__all__ = ["Stages"]


@dataclass(slots=True)
class Stages:
    """Starts the small run as the user starts the real one, and reports each stage when it is over."""

    folder: Path
    recipe: Path
    """The small run's."""
    launcher: str
    command: tuple[str, ...]
    """The user's `swift` command, empty for `guardrail run`."""
    limit_s: float
    verbose: bool
    on_begin: Callable[[str], None]
    on_result: Callable[[StageResult], None]
    results: list[StageResult] = field(default_factory=list)
    started: list[Record] = field(default_factory=list)
    """The ledger as the kill left it."""
    saved: Path | None = None
    """The checkpoint the run was killed after."""
    epochs_a_step: float = 0.0
    pass_s: float = 0.0
    """Seconds in which base answered one of the small sets once."""

    def run_all(self) -> None:
        """Carry out every stage that can still be tried."""
        if self._anchors() and self._start() and not self._go_on():
            self._halt_afresh()
        for name in STAGES[len(self.results) :]:
            self._report(name, None, "not reached")

    @property
    def _run(self) -> Path:
        return self.folder / "run"

    def _report(self, name: str, passed: bool | None, seen: str) -> None:
        result = StageResult(name, passed, seen)
        self.results.append(result)
        self.on_result(result)

    def _run_command(
        self, line: list[str], *, when: Callable[[], bool] = lambda: False
    ) -> CommandResult:
        log = self.folder / "rehearsal.log"
        variables = {RECIPE_VARIABLE: str(self.recipe)} if self.command else {}
        return run_command(line, log, limit_s=self.limit_s, environment=variables, kill_when=when)

    def _train(
        self, run: Path, *, resume: Path | None = None, when: Callable[[], bool] = lambda: False
    ) -> CommandResult:
        line = training_line(
            self.recipe, run, launcher=self.launcher, command=self.command, resume=resume
        )
        return self._run_command(line, when=when)

    def _checkpoints(self, run: Path) -> Path:
        return run if self.command else run / "checkpoints"

    def _failure_reason(self, result: CommandResult, records: list[Record]) -> str:
        failed = [r["error"] for r in records if r["kind"] == "error"]
        said = failure_reason(result, verbose=self.verbose)
        return f"{failed[-1][:600]} ({said})" if failed else said

    def _anchors(self) -> bool:
        self.on_begin("base answers both small sets")
        journal, begun = self.folder / "anchors/answers.partial.jsonl", list[float]()

        def note_the_first_answers() -> bool:
            if not begun and journal.is_file() and journal.read_bytes().count(b"\n") > 1:
                begun.append(time.time())
            return False

        line = [sys.executable, "-m", "guardrail", "anchor", str(self.recipe), "--json"]
        result = self._run_command(line, when=note_the_first_answers)
        manifest = self.folder / "anchors/manifest.json"
        if result.code or not manifest.is_file():
            self._report("anchors", False, self._failure_reason(result, []))
            return False
        made = json.loads(manifest.read_text(encoding="utf-8"))
        rounds = made["replicates"] if made["decoding"]["mode"] == "sampled" else 0
        # All but the first round, whose start nobody saw: the model had to be loaded.
        answering = manifest.stat().st_mtime - begun[0] if begun else result.seconds
        self.pass_s = answering / (rounds + 1)
        self._report(
            "anchors",
            True,
            f"{rounds + 2} rounds of up to 8 answers, {self.pass_s:.1f} s each; with loading {result.seconds:.0f} s",
        )
        return True

    def _start(self) -> bool:
        """Train until the first checkpoint is complete, and kill; return whether that came about."""
        self.on_begin("the run begins; killed when its first checkpoint is complete")
        checkpoints = self._checkpoints(self._run)
        result = self._train(
            self._run, when=lambda: last_complete_checkpoint(checkpoints) is not None
        )
        self.started = records = records_of(self._run)
        self.saved = last_complete_checkpoint(checkpoints)
        looked = (attached, look_zero, stepped, saved_with_a_look)
        for name, look in zip(STAGES[1:5], looked, strict=True):
            seen = look(records, result, self._run)
            if seen is None:
                self._report(name, False, self._failure_reason(result, records))
                return False
            self._report(name, *seen)
        if self.saved is None or not result.killed:
            self._report(
                "kill -9",
                False,
                f"ended before it was killed: {self._failure_reason(result, records)}",
            )
            return False
        trainer_state = json.loads((self.saved / "trainer_state.json").read_text(encoding="utf-8"))
        self.epochs_a_step = float(trainer_state["epoch"]) / int(trainer_state["global_step"])
        last = max(int(r["step"]) for r in records)
        self._report(
            "kill -9",
            True,
            f"SIGKILL to {result.killed} process(es) at step {last}; {self.saved.name} is complete",
        )
        return True

    def _go_on(self) -> bool:
        """Resume, and let the next look fail; return whether the run went on."""
        assert self.saved is not None
        self.on_begin("the run goes on from its checkpoint; its next look is made to fail")
        saved, step = self.saved, checkpoint_step(self.saved)
        result = self._train_to_the_halt(
            self._run, read_state(saved).looks, step + EVERY_STEPS, resume=saved
        )
        records = records_of(self._run)
        rewound = [r for r in records if r["kind"] == "rewound"]
        losses = [r for r in records if r["kind"] == "log" and r["step"] > step]
        if not rewound or rewound[-1]["checkpoint"] != saved.name or not losses:
            self._report("resume", False, self._failure_reason(result, records))
            return False
        loss_values = [r["loss"] for r in losses]
        self._report(
            "resume",
            None not in loss_values,
            f"went on from {saved.name}: loss {', '.join(map(figure, loss_values))}{injected(losses)}",
        )
        self._report_halt(result, self._run, step + EVERY_STEPS)
        return True

    def _halt_afresh(self) -> None:
        self.on_begin("a run of its own is halted, as the first could not go on")
        run = self.folder / "halt"
        result = self._train_to_the_halt(run, 1, EVERY_STEPS)
        self._report_halt(result, run, EVERY_STEPS)

    def _train_to_the_halt(
        self, run: Path, look: int, step: int, *, resume: Path | None = None
    ) -> CommandResult:
        """Train while a folder stands where a look's answers are to be written, as if the disk took no file.

        That look fails for certain, and `on_error: halt` does the rest as in any run.
        """
        obstacle = run / answers_file(look, step)
        obstacle.unlink(missing_ok=True)  # of a look that the kill undid
        obstacle.mkdir(parents=True)
        try:
            return self._train(run, resume=resume)
        finally:
            obstacle.rmdir()

    def _report_halt(self, result: CommandResult, run: Path, step: int) -> None:
        records = records_of(run)
        ended = [r for r in records if r["kind"] == "ended"]
        checkpoint = self._checkpoints(run) / f"checkpoint-{step}"
        complete = (checkpoint / STATE_FILE).is_file()
        report = (run / "report.html").is_file()
        # torchrun and accelerate make 1 of every code but 0
        exit_fits = result.code == HALTED or (
            result.code != 0 and bool(self.launcher or self.command)
        )
        halted = bool(ended) and ended[-1]["outcome"] == "halted" and ended[-1]["step"] == step
        if not halted:
            self._report("forced halt", False, self._failure_reason(result, records))
            return
        seen = {
            f"{checkpoint.name} is complete"
            if complete
            else f"{checkpoint.name} is NOT complete": complete,
            f"exit code {result.code}": exit_fits,
            "report written" if report else "NO report": report,
        }
        self._report(
            "forced halt",
            all(seen.values()),
            f"a look that failed halted the run at step {step}: {', '.join(seen)}",
        )
