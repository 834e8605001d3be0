"""Which prompt stands where and in what form: KL-only prompts at even distances among the user's own."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import torch

from guardrail.errors import InputError
from guardrail.kl.schedule import rehearsal_order

__all__ = [
    "KL_ONLY",
    "MixedPrompts",
    "MixedSampler",
    "fewest_prompts",
    "in_the_users_form",
    "prompt_tokens",
    "refuse_few_prompts",
]

KL_ONLY = "guardrail_kl_only"
"""Marks KL-only rows, in the dataset and in the trainer's batches."""


class MixedPrompts(torch.utils.data.Dataset[dict[str, Any]]):
    """The user's rows, untouched, and after them the KL-only rows, whose user columns are None."""

    def __init__(self, tasks: Any, prompts: Sequence[Any]) -> None:
        """Keep both; `prompts` are in the form of the user's prompts."""
        self.tasks = tasks
        none = dict.fromkeys(tasks.column_names)
        self.kl_only = [none | {"prompt": prompt, KL_ONLY: True} for prompt in prompts]

    def __len__(self) -> int:
        """Return the number of rows of both kinds."""
        return len(self.tasks) + len(self.kl_only)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a row; beyond the last one raise IndexError, which ends a loop over the rows."""
        if index < len(self.tasks):
            return dict(self.tasks[index])
        return dict(self.kl_only[index - len(self.tasks)])


class MixedSampler(torch.utils.data.Sampler[int]):
    """TRL's order of the task prompts with KL-only prompts put in at even distances.

    Group p of the run, counted over all passes, is KL-only where floor(fraction * (p + 1)) exceeds
    floor(fraction * p): after any number of groups the share is exact to less than one group. Which
    group is which is a pure function of its place in the run, so every rank agrees and a resumed run
    goes on where it was. A pass is as many whole generation batches as the task prompts last; those
    left over are dropped, as TRL drops them, and task prompts keep the order TRL would give them.
    """

    def __init__(
        self,
        trainer: Any,
        plain_sampler: Callable[[Any], Any],
        tasks: int,
        prompts: int,
        *,
        fraction: float,
        seed: int,
    ) -> None:
        """Plan a pass over `tasks` task prompts; `plain_sampler` is the trainer's own.

        Raises:
            InputError: the task prompts do not fill one generation batch.
        """
        self._trainer, self._plain_sampler = trainer, plain_sampler
        self._tasks, self._fraction, self._seed = tasks, fraction, seed
        self._ids = [str(number) for number in range(prompts)]
        batch = plain_sampler(range(tasks)).batch_size
        # The longest pass in which no alignment with the error diffusion needs more tasks than exist.
        self.groups = (int((tasks + 1) / (1.0 - fraction)) // batch + 1) * batch
        while self.groups - self.due(self.groups) > tasks:
            self.groups -= batch
        if tasks < fewest_prompts(batch, fraction):
            refuse_few_prompts(tasks, batch)

    def due(self, groups: int) -> int:
        """Return how many of the first `groups` groups of the run are KL-only."""
        return int(self._fraction * groups + 1e-9)

    def order(self, number: int) -> list[int]:
        """Return the rows of pass `number`, one a group, as indices into MixedPrompts."""
        first = number * self.groups
        seen, due = self.due(first), self.due(first + self.groups)
        drawn = iter(rehearsal_order(self._ids, seen, due - seen, self._seed))
        tasks = iter(self._task_order(number))
        return [
            self._tasks + int(next(drawn)) if self.due(place + 1) > self.due(place) else next(tasks)
            for place in range(first, first + self.groups)
        ]

    def _task_order(self, number: int) -> list[int]:
        """TRL draws one permutation a pass from one seeded generator."""
        plain = self._plain_sampler(range(self._tasks))
        order = list(range(self._tasks))
        for _ in range(number + 1 if plain.shuffle else 0):
            order = torch.randperm(self._tasks, generator=plain.generator).tolist()
        return order

    def _repeats(self) -> Any:
        repeats = self._plain_sampler(range(self.groups))
        repeats.shuffle = False
        return repeats

    def __iter__(self) -> Iterator[int]:
        """Yield the coming pass, each row repeated as TRL repeats it.

        The pass follows from the optimizer steps taken, as in transformers.Trainer: `set_epoch` does
        not reach a sampler through the wrappers of a resumed run on several ranks.
        """
        repeats = self._repeats()
        batches = self.groups // repeats.batch_size * repeats.repeat_count
        steps = -(-batches // self._trainer.args.gradient_accumulation_steps)
        order = self.order(self._trainer.state.global_step // steps)
        for place in repeats:
            yield order[place]

    def __len__(self) -> int:
        """Return how many indices a pass yields."""
        return len(self._repeats())


def fewest_prompts(batch: int, fraction: float) -> int:
    """Return how many task prompts the first generation batch of so many takes, where a share of them is KL-only."""
    return batch - int(fraction * batch + 1e-9)


def refuse_few_prompts(prompts: int, batch: int) -> NoReturn:
    """Say that the task prompts do not fill one generation batch, of which TRL would make no step at all.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"the training data have {prompts} prompts, one generation batch takes {batch}; add prompts "
        "or lower `generation_batch_size` (`per_device_train_batch_size`, `gradient_accumulation_steps`)"
    )


def _rendered(trainer: Any, chat: list[dict[str, str]], *, tokenize: bool) -> Any:
    return trainer.processing_class.apply_chat_template(
        chat,
        add_generation_prompt=True,
        tokenize=tokenize,
        return_dict=False,
        **trainer.chat_template_kwargs,
    )


def prompt_tokens(trainer: Any, prompt: Any) -> list[int]:
    """Token ids of a prompt in the form the trainer is given it: a text, or a chat."""
    if isinstance(prompt, str):
        return list(trainer.processing_class(text=[prompt])["input_ids"][0])
    return list(_rendered(trainer, prompt, tokenize=True))


def in_the_users_form(trainer: Any, chats: Sequence[list[dict[str, str]]]) -> list[Any]:
    """The chats, rendered where the user's prompts are plain text: TRL takes one form a batch."""
    first = trainer.train_dataset[0]
    if "prompt" not in first:
        raise InputError(
            f"train_dataset has no column `prompt`, which GRPO asks; it has {', '.join(first)}. Rename the one with the prompts"
        )
    if not isinstance(first["prompt"], str):
        return [list(chat) for chat in chats]
    texts = [_rendered(trainer, chat, tokenize=False) for chat in chats]
    for chat, text in zip(chats, texts, strict=True):
        if prompt_tokens(trainer, text) != list(_rendered(trainer, chat, tokenize=True)):
            raise InputError(
                "train_dataset's prompts are plain text, and a rendered chat gets other tokens from this "
                f"tokenizer than the chat itself ({text[:40]!r}); give train_dataset chats as prompts"
            )
    return texts
