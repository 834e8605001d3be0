import importlib.metadata
import os

import hypothesis
import pytest
from packaging.requirements import Requirement

# The suite never looks at a hub. On one thread small models are fastest, and what is run twice is bit-equal.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
# ms-swift's plug-in for vLLM wants torchvision, which no text needs.
os.environ["VLLM_PLUGINS"] = "none"

# No test is timed: whatever else the machine does would decide it.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def installed(wanted: str) -> bool:
    """Whether a requirement such as `ms-swift==4.6.*` is met; asked without importing the package."""
    requirement = Requirement(wanted)
    try:
        return importlib.metadata.version(requirement.name) in requirement.specifier
    except importlib.metadata.PackageNotFoundError:
        return False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        action="append",
        default=[],
        metavar="REQUIREMENT",
        help="end at once unless this is installed, such as 'ms-swift==4.6.*': without it the tests of "
        "that framework would be skipped, or another version be tested",
    )


def pytest_configure(config: pytest.Config) -> None:
    missing = [wanted for wanted in config.getoption("--require") if not installed(wanted)]
    if missing:
        raise pytest.UsageError(
            f"--require {', '.join(missing)}: not installed in this environment"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("swift") and not installed("ms-swift"):
        pytest.skip("ms-swift is not installed in this environment")
