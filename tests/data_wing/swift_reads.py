"""What ms-swift makes of files that the data wing writes, in a process of its own: importing `swift` patches transformers.

python -m tests.data_wing.swift_reads order|pairs FILE
"""

import sys

from swift.dataloader.shard import BatchSamplerShard
from swift.dataset import load_dataset


def order(path: str) -> None:
    """Print the questions in the order in which an unshuffled training draws them."""
    rows, _ = load_dataset([path], shuffle=False, split_dataset_ratio=0.0)
    said = [row["messages"][0]["content"] for row in rows]
    taken = BatchSamplerShard(len(rows), batch_size=2, shuffle=False, drop_last=False, data_seed=0)
    print("|".join(said[n] for batch in taken for n in batch))


def pairs(path: str) -> None:
    """Print the chosen and the rejected answer of each pair."""
    rows, _ = load_dataset([path], shuffle=False, split_dataset_ratio=0.0)
    print("|".join(f"{row['messages'][-1]['content']}>{row['rejected_response']}" for row in rows))


if __name__ == "__main__":
    {"order": order, "pairs": pairs}[sys.argv[1]](sys.argv[2])
