from guardrail.trainers.task_prompts import opening_tokens, task_prompts


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
