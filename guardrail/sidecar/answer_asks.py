"""The answer to one ask: its checkpoint loaded, asked by the run's own meter, what came of it in one file."""

import contextlib
import errno
import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from guardrail.engines.finished_model import answering, load_finished, placed_engine
from guardrail.engines.vllm_client import Unreachable, VllmServer
from guardrail.errors import InputError
from guardrail.guard.asked_looks import Asked, Measurement, write_answer, write_failure
from guardrail.guard.measure_look import Meter
from guardrail.judge.look_values import answers_file
from guardrail.models.fingerprint import is_adapter
from guardrail.models.load import load_tokenizer
from guardrail.models.rounding import coarser, forward_dtype
from guardrail.sets.items import Item

__all__ = ["Answerer"]

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 300.0


@dataclass(frozen=True, slots=True)
class Answerer:
    """Who answers a run's asks: this process, or a server that is shown to have the checkpoint's weights."""

    meter: Meter
    rehearsal: list[Item]
    """Of the anchors, for the proof of a server's weights."""
    start_is_gold_base: bool
    """Whether look 0 is a check of the pipeline, for which it is measured what rounding does."""
    server: VllmServer | None = None
    served_as: str | None = None
    pause_s: float = 10.0
    """Before a server that cannot be reached is tried again; doubled each time, up to five minutes."""
    lag_s: float = 60.0
    """How long a checkpoint may take to be seen here: a network file system shows a folder late."""

    def answer(self, ask: Asked, unreachable: Callable[[str], None]) -> None:
        """Measure the look at an ask's checkpoint and write the answer, or why there is none.

        While the server is away it waits and begins the look again.

        Args:
            ask: What to look at.
            unreachable: Told what a server that cannot be reached says.
        """
        pause = self.pause_s
        while True:
            try:
                write_answer(self.meter.run, ask, self._measured(ask))
            except Unreachable as error:
                logger.warning("%s; the look begins again in %.0f s", error, pause)
                unreachable(str(error).partition(",")[0])
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE_S, 2 * pause)
                continue
            except Exception as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise  # a disk that takes nothing takes no answer either
                self._failed(ask, error)
            self._give_back_memory()
            return

    def _failed(self, ask: Asked, error: Exception) -> None:
        logger.error("the look at step %d could not be measured", ask.step, exc_info=error)
        write_failure(self.meter.run, ask, f"{type(error).__name__}: {error}"[:2000])

    def _give_back_memory(self) -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _measured(self, ask: Asked) -> Measurement:
        meter, manifest = self.meter, self.meter.anchors.manifest
        start = Path(str(meter.recipe.start_model))
        model = start if ask.trigger == "start" else meter.run / ask.checkpoint
        self._wait_for(model)
        quantised = manifest.quantization is not None
        # One precision for base and all checkpoints, whatever the training keeps its weights in.
        dtype = "auto" if quantised else getattr(torch, manifest.dtype)
        weights, _, _ = load_finished(
            model,
            None if is_adapter(start) else start,
            manifest.quantization,
            merged=False,
            dtype=dtype,
        )
        # A training may save another chat template than the anchors were asked with.
        tokenizer = load_tokenizer(meter.recipe.gold_base)
        local = placed_engine(weights, tokenizer, manifest, self.server)
        rounding = None
        if ask.trigger == "start" and self.start_is_gold_base:
            rounding = coarser(forward_dtype(local.model), getattr(torch, manifest.dtype))
        file = f"{answers_file(ask.look, ask.step).removesuffix('.jsonl')}-{ask.nonce[:8]}.jsonl"
        with answering(
            local, self.server, self.served_as, model, meter.anchors, self.rehearsal
        ) as (server, served):
            measured = meter.measure(
                local,
                ask.look,
                ask.samples,
                file,
                server=server,
                rounding=rounding,
            )
        return replace(measured, served=served)

    def _wait_for(self, model: Path) -> None:
        deadline = time.monotonic() + self.lag_s
        while not (_holds_model(model)):
            if time.monotonic() >= deadline:
                raise InputError(
                    f"checkpoint `{model}` is not here, or holds no model: it was taken away, lies where this machine does "
                    "not see it, or was saved in pieces that only its trainer puts together"
                )
            time.sleep(min(1.0, self.lag_s))


def _holds_model(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        names = {path.name for path in folder.iterdir()}  # asks a network file system anew
        return bool(names & {"config.json", "adapter_config.json"})
    return False
