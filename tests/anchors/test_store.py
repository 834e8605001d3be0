import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from guardrail.anchors.decoding import Decoding
from guardrail.anchors.store import (
    AnchorAnswer,
    Manifest,
    TopK,
    _StoredTopK,
    manifest_difference,
    read_anchors,
    require_answers,
    write_anchors,
)
from guardrail.errors import InputError
from guardrail.kl.token_losses import rehearsal_samples
from guardrail.models.fingerprint import file_sha256
from guardrail.models.profile import Profile
from guardrail.read_back import sealed, unsealed

HASHES = {"weights": "a" * 64, "tokenizer": "b" * 64, "chat_template": "c" * 64}


PROFILE = Profile(
    stop=(2,),
    pad=0,
    thinking=False,
    heeds_thinking=True,
    opened="",
    system_turns=True,
    alternating=False,
    vocabulary=1000,
)


def manifest(**changes) -> Manifest:
    content = {
        "gold_base": HASHES,
        "kl_reference": HASHES,
        "red_line": "d" * 64,
        "rehearsal": "e" * 64,
        "profile": PROFILE,
        "decoding": Decoding(),
        "replicates": 1,
        "seed": 0,
        "top_k": 2,
        "batch_size": 4,
        "engine": "in-process",
        "dtype": "float32",
        "versions": {"torch": "2.13.0"},
    }
    return Manifest(**(content | changes))


ANSWERS = [
    AnchorAnswer("red-1", 0, "苹果", (5, 6, 2), "stop"),
    AnchorAnswer("red-1", 1, "<think>\n</think>梨", (7, 2), "stop"),
    AnchorAnswer("reh-1", 0, "好", (8, 2), "length"),
]
TOPK = {
    "reh-1": TopK(
        np.array([[1, 2], [3, 4]], np.int32),
        np.array([[-0.1, -3.0], [-0.2, -2.0]], np.float32),
        np.array([-4.0, -np.inf], np.float32),
    )
}


def test_anchors_come_back_as_written(tmp_path):
    write_anchors(tmp_path / "a", manifest(), ANSWERS, TOPK)
    anchors = read_anchors(tmp_path / "a")
    assert anchors.gold("red-1") == "苹果"
    assert anchors.answers["red-1"][1] == ANSWERS[1]
    np.testing.assert_array_equal(anchors.topk["reh-1"].ids, TOPK["reh-1"].ids)
    np.testing.assert_array_equal(anchors.topk["reh-1"].tail, TOPK["reh-1"].tail)
    assert anchors.manifest == manifest()


def test_the_same_anchors_are_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_anchors(tmp_path / name, manifest(), ANSWERS, TOPK)
    for file in ("manifest.json", "answers.jsonl", "topk.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def distributions(scale: float, tokens: int = 2, k: int = 16) -> TopK:
    """The k largest of a vocabulary of 1000, and the rest."""
    logits = scale * np.random.default_rng(int(scale)).standard_normal((tokens, 1000))
    logprobs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    ids = np.argsort(-logprobs)[:, :k]
    kept = np.take_along_axis(logprobs, ids, 1)
    tail = np.log1p(-np.exp(kept).sum(1))
    return TopK(ids.astype(np.int32), kept.astype(np.float32), tail.astype(np.float32))


@pytest.mark.parametrize("scale", [1, 3, 8])
def test_sixteen_bits_keep_the_kl(tmp_path, scale):
    entry = distributions(scale)
    write_anchors(tmp_path / "a", manifest(), ANSWERS, {"reh-1": entry})
    assert load_file(tmp_path / "a/topk.safetensors")["reh-1/logprobs"].dtype == np.float16
    found = read_anchors(tmp_path / "a").topk["reh-1"]
    p, q = (
        np.exp(np.concatenate([e.logprobs, e.tail[:, None]], 1, dtype=np.float64))
        for e in (entry, found)
    )
    np.testing.assert_allclose(q.sum(1), 1, atol=1e-6)
    assert (p * np.log(p / q)).sum(1).max() < 1e-6
    assert found.logprobs.dtype == np.float32


def test_what_sixteen_bits_would_move_keeps_its_32(tmp_path):
    entry = distributions(1)
    wide = TopK(entry.ids, entry.logprobs, entry.tail + np.float32(0.05))  # no distribution
    write_anchors(tmp_path / "a", manifest(), ANSWERS, {"reh-1": wide})
    found = read_anchors(tmp_path / "a").topk["reh-1"]
    np.testing.assert_array_equal(found.logprobs, wide.logprobs)
    np.testing.assert_array_equal(found.tail, wide.tail)


def test_a_store_with_32_bits_still_reads_as_it_is(tmp_path):
    write_anchors(tmp_path / "a", manifest(), ANSWERS, TOPK)
    entry = distributions(3)
    tensors = {"ids": entry.ids, "logprobs": entry.logprobs, "tail": entry.tail}
    file = tmp_path / "a/topk.safetensors"
    save_file({f"reh-1/{name}": table for name, table in tensors.items()}, file)
    path = tmp_path / "a/manifest.json"
    content = unsealed(json.loads(path.read_text()))
    content["files"]["topk.safetensors"] = file_sha256(file)
    path.write_text(json.dumps(sealed(content)))
    found = read_anchors(tmp_path / "a").topk["reh-1"]
    np.testing.assert_array_equal(found.logprobs, entry.logprobs)
    np.testing.assert_array_equal(found.tail, entry.tail)


def test_reading_anchors_reads_no_distribution(tmp_path, monkeypatch):
    write_anchors(tmp_path / "a", manifest(), ANSWERS, TOPK)
    asked = []
    entry = _StoredTopK.__getitem__
    monkeypatch.setattr(
        _StoredTopK, "__getitem__", lambda self, item: asked.append(item) or entry(self, item)
    )
    anchors = read_anchors(tmp_path / "a")
    samples = rehearsal_samples({"reh-1": [1]}, {"reh-1": (8, 2)}, anchors.topk)
    assert asked == []
    np.testing.assert_array_equal(samples["reh-1"].reference.ids, TOPK["reh-1"].ids)
    assert asked == ["reh-1"]


def test_distributions_of_another_answer_are_named(tmp_path):
    write_anchors(tmp_path / "a", manifest(), ANSWERS, {"reh-1": distributions(3, tokens=5)})
    with pytest.raises(InputError, match="5 stored positions for 2 gold tokens"):
        read_anchors(tmp_path / "a")


def test_anchors_written_anew_leave_a_run_that_reads_them_alone(tmp_path):
    write_anchors(tmp_path / "a", manifest(), ANSWERS, TOPK)
    open_already = read_anchors(tmp_path / "a")
    write_anchors(tmp_path / "a", manifest(), ANSWERS, {"reh-1": distributions(3)})
    np.testing.assert_array_equal(open_already.topk["reh-1"].ids, TOPK["reh-1"].ids)


@pytest.mark.parametrize("file", ["manifest.json", "answers.jsonl", "topk.safetensors"])
@pytest.mark.parametrize("spoiled", [b"", b"{", None])
def test_a_damaged_folder_is_named_with_the_way_out(tmp_path, file, spoiled):
    write_anchors(tmp_path / "a", manifest(), ANSWERS, TOPK)
    if spoiled is None:
        (tmp_path / "a" / file).unlink()
    else:
        (tmp_path / "a" / file).write_bytes(spoiled)

    def read() -> None:
        require_answers(tmp_path / "a", read_anchors(tmp_path / "a"), ["red-1", "reh-1"])

    with pytest.raises(InputError, match=r"run `guardrail anchor RECIPE") as caught:
        read()
    assert str(tmp_path / "a") in str(caught.value)


def test_a_missing_answer_is_named(tmp_path):
    write_anchors(tmp_path / "a", manifest(replicates=2), ANSWERS, TOPK)
    with pytest.raises(InputError, match="item `red-1` has 2 answers instead of 3"):
        read_anchors(tmp_path / "a")
    write_anchors(tmp_path / "b", manifest(), ANSWERS, TOPK)
    with pytest.raises(InputError, match="no answer to red-2"):
        require_answers(tmp_path / "b", read_anchors(tmp_path / "b"), ["red-1", "red-2"])


def test_a_folder_without_manifest_is_unfinished(tmp_path):
    with pytest.raises(InputError, match="no finished anchors"):
        read_anchors(tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"profile": PROFILE.model_copy(update={"thinking": True})},
            "profile.thinking: anchors have False, the recipe True",
        ),
        (
            {"profile": PROFILE.model_copy(update={"stop": (2, 4)})},
            "profile.stop: anchors have [2], the recipe [2, 4]",
        ),
        ({"gold_base": HASHES | {"weights": "f" * 64}}, "gold_base.weights"),
        ({"kl_reference": HASHES | {"chat_template": "f" * 64}}, "kl_reference.chat_template"),
        ({"decoding": Decoding(temperature=1.0)}, "decoding.temperature: anchors have 0.7"),
        ({"red_line": "f" * 64}, "red_line: anchors have dddddddddddd"),
    ],
)
def test_every_difference_is_named(changes, named):
    differences = manifest_difference(manifest(), manifest(**changes))
    assert len(differences) == 1
    assert differences[0].startswith(named)


def test_library_versions_are_recorded_but_not_refused():
    assert manifest_difference(manifest(), manifest(versions={"torch": "9.9"})) == []


@pytest.mark.parametrize(
    "changes", [{"dtype": "bfloat16"}, {"batch_size": 9}, {"versions": {}}, {"kl_error": {2: 0.1}}]
)
def test_the_same_model_in_another_dtype_or_batch_size_is_no_difference(changes):
    assert manifest_difference(manifest(), manifest(**changes)) == []


def test_anchors_of_an_earlier_version_are_to_be_made_anew(tmp_path):
    write_anchors(tmp_path / "a", manifest(), ANSWERS, TOPK)
    path = tmp_path / "a" / "manifest.json"
    content = json.loads(path.read_text())
    content["thinking"] = content.pop("profile")["thinking"]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="made by an earlier version"):
        read_anchors(tmp_path / "a")


def change_answer(**changes):
    def change(folder):
        path = folder / "answers.jsonl"
        first, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True)
        row = json.loads(first)
        row |= {k: v(row[k]) if callable(v) else v for k, v in changes.items()}
        path.write_text(
            "".join([json.dumps(row, ensure_ascii=False) + "\n", *rest]), encoding="utf-8"
        )

    return change


def change_topk(**changes):
    def change(folder):
        tensors = load_file(folder / "topk.safetensors")
        save_file(
            tensors | {f"reh-1/{k}": v for k, v in changes.items()}, folder / "topk.safetensors"
        )

    return change


def flip_a_bit(name):
    def change(folder):
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return change


def change_manifest(folder):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 7}))


@pytest.mark.parametrize(
    "change",
    [
        change_answer(text="HACKED"),
        change_answer(token_ids=lambda ids: ids[::-1]),
        change_answer(finish_reason="length"),
        change_topk(logprobs=np.full((2, 2), np.nan, np.float32)),
        change_topk(ids=np.full((2, 2), 10**6, np.int32)),
        flip_a_bit("manifest.json"),
        flip_a_bit("answers.jsonl"),
        flip_a_bit("topk.safetensors"),
        change_manifest,
    ],
)
def test_anchors_that_somebody_changed_are_refused(tmp_path, change):
    write_anchors(tmp_path / "a", manifest(), ANSWERS, TOPK)
    change(tmp_path / "a")
    with pytest.raises(InputError, match=r"anchors `.*` are damaged .*--rebuild`"):
        read_anchors(tmp_path / "a")


def test_anchors_without_digests_are_of_an_older_version(tmp_path):
    write_anchors(tmp_path / "a", manifest(), ANSWERS, TOPK)
    path = tmp_path / "a/manifest.json"
    content = unsealed(json.loads(path.read_text()))
    del content["files"]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"made by an older version.*--rebuild`"):
        read_anchors(tmp_path / "a")


@pytest.mark.parametrize(
    "entry",
    [
        TopK(TOPK["reh-1"].ids, TOPK["reh-1"].logprobs * np.float32("nan"), TOPK["reh-1"].tail),
        TopK(TOPK["reh-1"].ids + 1000, TOPK["reh-1"].logprobs, TOPK["reh-1"].tail),
    ],
)
def test_what_no_engine_may_say_is_not_written(tmp_path, entry):
    with pytest.raises(ValueError, match="item `reh-1`: the engine gave"):
        write_anchors(tmp_path / "a", manifest(), ANSWERS, {"reh-1": entry})
