"""A real vLLM server on this machine's CPU, started for a test and ended after it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.run_fixtures import free_port

STARTS_WITHIN_S = 400


@contextmanager
def vllm_server(model: Path, log: Path, *more: object) -> Iterator[str]:
    """Serve a model's folder as `toy` for the body, in the precision of the toy; give the address.

    One thread, eager, half a gigabyte for the cache: nothing is compiled for three seconds of work.
    """
    pytest.importorskip("vllm")
    port = free_port()
    line = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    line += ["--served-model-name", "toy", "--host", "127.0.0.1", "--port", port]
    line += ["--dtype", "float32", "--max-model-len", 1024, "--max-logprobs", -1]
    line += ["--enforce-eager", "--disable-uvicorn-access-log", *more]
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        # ms-swift installs one that needs torchvision, which this environment has not.
        "VLLM_PLUGINS": "",
    }
    with (
        log.open("w") as said,
        subprocess.Popen(
            [*map(str, line)], env=environment, stdout=said, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            _wait(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urlopen(f"{url}/health", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"vLLM does not serve (exit code {process.poll()}):\n{log.read_text()[-4000:]}")
