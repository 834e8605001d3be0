"""Which files of a checkpoint are hashed whole, and what their digests find."""

import pytest

from guardrail.errors import InputError
from guardrail.guard.bound_checkpoint import bind, check_bound

MIB = 1 << 20


def sparse(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def flip(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\1")


@pytest.fixture
def run(tmp_path):
    (tmp_path / "ledger.jsonl").write_text('{"kind": "started", "step": 0}\n')
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "adapter_model.safetensors", "optimizer.pt", "a/pytorch_model.bin"],
)
@pytest.mark.parametrize("at", [9 * MIB + 5, 129 * MIB])
def test_one_bit_anywhere_is_found_where_a_file_is_hashed_whole(run, name, at):
    checkpoint = run / "checkpoint-1"
    sparse(checkpoint / name, 130 * MIB)
    bound = bind(run, checkpoint)
    check_bound(run, checkpoint, bound)
    flip(checkpoint / name, at)
    with pytest.raises(InputError, match=f"checkpoint-1/{name}` is not as it was"):
        check_bound(run, checkpoint, bound)


def test_pieces_that_change_places_are_another_file(run):
    path = run / "checkpoint-1/model.safetensors"
    sparse(path, 192 * MIB)
    flip(path, 0)
    bound = bind(run, path.parent)
    sparse(path, 192 * MIB)
    flip(path, 64 * MIB)
    with pytest.raises(InputError, match="is not as it was"):
        check_bound(run, path.parent, bound)


def test_of_a_large_optimizer_state_size_and_samples_are_hashed(run):
    """What is sampled only is said in docs/security.md: this is where that ends."""
    path = run / "checkpoint-1/optimizer.pt"
    sparse(path, 1024 * MIB + 1)
    bound = bind(run, path.parent)
    flip(path, 5 * MIB)
    check_bound(run, path.parent, bound)
    flip(path, 0)
    with pytest.raises(InputError, match=r"optimizer\.pt` is not as it was"):
        check_bound(run, path.parent, bound)


def test_a_state_of_the_version_before_is_compared_as_it_was_hashed(run):
    from guardrail.guard.bound_checkpoint import _sampled

    path = run / "checkpoint-1/model.safetensors"
    sparse(path, 20 * MIB)
    bound = bind(run, path.parent)
    assert bound["files"]["model.safetensors"].startswith("pieces:")
    bound["files"]["model.safetensors"] = _sampled(path)
    check_bound(run, path.parent, bound)
