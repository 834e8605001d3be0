from guardrail.trainers.task_prompts import opening_tokens, task_prompts, tokenised


def test_the_opening_is_what_the_template_adds_for_the_assistant(tokenizer):
    off = tokenizer.decode(opening_tokens(tokenizer, thinking=False))
    on = tokenizer.decode(opening_tokens(tokenizer, thinking=True))
    assert on == "<|im_start|>assistant\n"
    assert off.startswith(on)
    assert off.endswith("</think>\n\n")


def test_prompts_of_a_real_tokenised_training_set_end_where_the_assistant_speaks(
    make_trainer, rows, tokenizer
):
    trainer = make_trainer(max_steps=1)
    opening = opening_tokens(tokenizer, thinking=False)
    prompts = task_prompts(trainer.train_dataset, opening, 5)
    assert len(prompts) == len({tuple(p) for p in prompts}) == 5
    questions = [row["messages"][0]["content"] for row in rows]
    for prompt in prompts:
        text = tokenizer.decode(prompt)
        assert any(f"user\n{question}" in text for question in questions)
        assert text.count("<|im_start|>assistant") == 1
        assert not any(row["messages"][1]["content"] in text for row in rows)


def test_rows_without_tokens_or_without_an_assistant_give_none(tokenizer):
    opening = opening_tokens(tokenizer, thinking=True)
    assert task_prompts([{"text": "甲"}, {"input_ids": [1, 2, 3]}], opening, 4) == []
    assert task_prompts([], opening, 4) == []


def test_rows_of_grpo_give_their_whole_prompts(tokenizer):
    user, said = {"role": "user", "content": "几号"}, {"role": "assistant", "content": "周五"}
    text = "<|im_start|>user\n在吗<|im_end|>\n"
    rows = [
        {"prompt": [user]},
        {"prompt": [user, said, {"role": "user", "content": "还款呢"}]},
        {"prompt": text},
        {"messages": [user, {"role": "user", "content": "今天"}, said]},
        {"messages": [said]},
        {"prompt": [{"role": "user", "content": [{"type": "image"}]}]},
        [{"input_ids": [1, 2]}, {"input_ids": [3]}],
    ]
    made = list(tokenised(rows, tokenizer, thinking=False))
    assert made[4:] == [{"input_ids": [1, 2]}, {"input_ids": [3]}]
    opening = opening_tokens(tokenizer, thinking=False)
    prompts = [tokenizer.decode(p) for p in task_prompts(made, opening, 9)]
    assert len(prompts) == 4
    assert prompts[2] == text
    for prompt, asked in zip(prompts, ("几号", "还款呢", "在吗", "今天"), strict=True):
        assert asked in prompt
        assert prompt == text or prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert "周五" in prompts[1]
    assert "周五" not in prompts[3]
