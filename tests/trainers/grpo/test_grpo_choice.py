"""Which form of KL-only samples a GRPO run gets: from a trainer as it is, and from a recipe alone."""

import json

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model

from guardrail.errors import InputError
from guardrail.ledger.file import Ledger, read_ledger
from guardrail.recipe import Recipe
from guardrail.trainers.checks.self_test import kl_self_test
from guardrail.trainers.checks.trainer_fits_recipe import check_trainer_fits
from guardrail.trainers.grpo.choice import Form, NoLiteral, require_same_form
from guardrail.trainers.trl.grpo_form import recipe_form, trainer_form
from tests.trainers.conftest import ADAPTER, tiny_model
from tests.trainers.grpo.grpo_fixtures import HERE, MARKS, Scorer, attach, make_trainer

pytestmark = [*MARKS, pytest.mark.run]
OTHER_REFERENCE = "`kl_reference` is another"


@pytest.fixture(scope="module")
def another(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("another") / "model"
    tiny_model(tokenizer, seed=9).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base_sft(base, tmp_path_factory):
    """An unmerged adapter with weights on the base."""
    folder = tmp_path_factory.mktemp("sft") / "adapter"
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    get_peft_model(model, ADAPTER).save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(base)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def recipe(base, *, start=None, pulls_to=None, lora=None, arguments=None, **rehearsal) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "chosen",
            "trainer": "trl-grpo",
            "gold_base": str(base),
            "start_model": str(start or base),
            "kl_reference": str(pulls_to or base),
            "sets": {"red_line": "red.jsonl", "rehearsal": "reh.jsonl"},
            "train": {"data": "d.jsonl", "rewards": ["m.py:f"], "lora": lora}
            | {"arguments": arguments or {}},
            "rehearsal": rehearsal,
        }
    )


def on_adapter(base, adapter, **arguments):
    """A trainer that goes on with an adapter, as `guardrail run` builds it."""
    trainer = make_trainer(base, Scorer(), lora=True, **arguments)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    model = PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    return type(trainer)(
        model=model,
        reward_funcs=Scorer(),
        args=trainer.args,
        train_dataset=trainer.train_dataset,
        processing_class=trainer.processing_class,
    )


def both(found: Form) -> tuple[str, str]:
    return found.name, found.reason


@pytest.mark.parametrize(
    ("lora", "beta", "form", "reason"),
    [
        (False, 0.3, "literal", "trainer"),
        (True, 0.3, "literal", "trainer"),
        (True, 0.0, "literal", "adapter_off"),
        (False, 0.0, "anchored", "no_reference"),
    ],
)
def test_literal_wherever_a_reference_is_at_hand(base, lora, beta, form, reason):
    said = recipe(base, lora={} if lora else None, arguments={"beta": beta})
    trainer = make_trainer(base, Scorer(), lora=lora, beta=beta)
    assert both(trainer_form(said, trainer)) == both(recipe_form(said)) == (form, reason)
    anchored = recipe(base, grpo="anchored", arguments={"beta": beta})
    assert both(trainer_form(anchored, trainer)) == ("anchored", "recipe")
    if form == "literal":
        asked = recipe(base, grpo="both", lora={} if lora else None, arguments={"beta": beta})
        assert both(trainer_form(asked, trainer)) == both(recipe_form(asked)) == ("both", reason)


def test_the_default_of_the_trainers_is_beta_0(base):
    import trl

    assert trl.GRPOConfig.beta == 0.0, "recipe_form takes it for the value of a recipe without one"
    assert both(recipe_form(recipe(base, lora={}))) == ("literal", "adapter_off")


def refused(said: Recipe, trainer, expected: str) -> None:
    """The same recipe with `literal` by name is refused, by the recipe and by the trainer alike."""
    asked = said.model_copy(
        update={"rehearsal": said.rehearsal.model_copy(update={"grpo": "literal"})}
    )
    for find in (lambda: recipe_form(asked), lambda: trainer_form(asked, trainer)):
        with pytest.raises(NoLiteral, match=expected) as found:
            find()
        assert "`rehearsal.grpo: anchored`" in str(found.value)


def test_full_fine_tuning_at_beta_0_is_refused_by_name(base):
    said, trainer = recipe(base), make_trainer(base, Scorer(), beta=0.0)
    refused(said, trainer, r"has none; set `beta` above 0 \(0\.001, say\)")


def test_an_unmerged_base_sft_is_no_reference_with_its_adapter_off(base, base_sft):
    said = recipe(base, start=base_sft, pulls_to=base_sft, arguments={"beta": 0.0})
    trainer = on_adapter(base, base_sft, beta=0.0)
    assert both(trainer_form(said, trainer)) == both(recipe_form(said)) == ("anchored", "adapter")
    refused(said, trainer, "merge the adapter and .*, set `beta` above 0")
    pulled = recipe(base, start=base_sft, pulls_to=base_sft, arguments={"beta": 0.3})
    copied = on_adapter(base, base_sft, beta=0.3)
    assert "ref" in copied.model.peft_config
    assert both(trainer_form(pulled, copied)) == both(recipe_form(pulled)) == ("literal", "trainer")


def self_tested(kl_only, model, folder):
    kl_self_test(
        kl_only,
        model,
        Ledger(folder),
        dtype=torch.float32,
        anchors_dtype=torch.float32,
        start_is_kl_reference=False,
    )
    return read_ledger(folder)[-1]


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_an_adapter_whose_base_is_the_reference_is_switched_off(base, base_sft, tmp_path, beta):
    """Also at a beta above 0, where TRL's own reference is a copy of the adapter."""
    said = recipe(base, start=base_sft, arguments={"beta": beta})
    trainer = on_adapter(base, base_sft, beta=beta)
    form = trainer_form(said, trainer)
    assert both(form) == both(recipe_form(said)) == ("literal", "adapter_off")
    kl_only = attach(trainer, adapter_off=True)
    told = self_tested(kl_only, trainer.model, tmp_path)
    assert told["at_start"] > 1e-3, "the Base-SFT is away from the base it is pulled to"


def test_another_reference_than_the_start_model(base, another):
    said = recipe(base, pulls_to=another, arguments={"beta": 0.3})
    trainer = make_trainer(base, Scorer())
    form = trainer_form(said, trainer)
    assert both(form) == both(recipe_form(said)) == ("anchored", "other_reference")
    assert OTHER_REFERENCE in form.sentence
    refused(said, trainer, f"{OTHER_REFERENCE} .*; give `kl_reference` the start model")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"init_lora_weights": "pissa"}, "`init_lora_weights: pissa` changes the weights below"),
        ({"bias": "all"}, "weights outside the adapter are trained too, such as"),
    ],
)
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_an_adapter_that_leaves_something_behind_is_no_reference(
    tmp_path, tokenizer, config, why, beta
):
    """At a beta above 0 TRL's reference is that model too."""
    model = tiny_model(tokenizer, seed=1)
    model.config.attention_bias = True
    with_biases = type(model)(model.config).float()
    with_biases.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    plain = make_trainer(tmp_path / "base", Scorer(), beta=beta)
    trainer = type(plain)(
        model=str(tmp_path / "base"),
        reward_funcs=Scorer(),
        args=plain.args,
        train_dataset=plain.train_dataset,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=2, target_modules=["q_proj"], **config),
    )
    form = trainer_form(recipe(tmp_path / "base"), trainer)
    assert form.name == "anchored"
    assert why in form.sentence


IN_THE_WAY = {"scale_rewards": "batch", "multi_objective_aggregation": "normalize_then_sum"}


@pytest.mark.parametrize("name", sorted(IN_THE_WAY))
def test_a_setting_in_the_way_means_golds_and_a_refusal_by_name(base, name):
    given = {"beta": 0.3, name: IN_THE_WAY[name]}
    said, trainer = recipe(base, arguments=given), make_trainer(base, Scorer(), **given)
    form = trainer_form(said, trainer)
    assert both(form) == both(recipe_form(said)) == ("anchored", "setting")
    assert form.setting == name
    assert f"`{name}`" in form.sentence
    asked = recipe(base, arguments=given, grpo="literal")
    for find in (lambda: recipe_form(asked), lambda: trainer_form(asked, trainer)):
        with pytest.raises(NoLiteral, match=f"KL-only prompts need `{name}` to be"):
            find()


def test_a_recipe_may_say_scale_rewards_as_trl_takes_it(base):
    for scaled in (True, False, "group", "none"):
        said = recipe(base, lora={}, arguments={"scale_rewards": scaled})
        assert recipe_form(said).name == "literal"


def test_an_active_router_loss_means_golds(base):
    if HERE.first == "0.29":
        return  # adds none
    trainer = make_trainer(base, Scorer(), lora=True, beta=0.0)
    trainer.aux_loss_enabled = True
    assert both(trainer_form(recipe(base), trainer)) == ("anchored", "router_loss")
    with pytest.raises(NoLiteral, match=r"router_aux_loss_coef=0\.0"):
        trainer_form(recipe(base, grpo="literal"), trainer)


def test_keys_of_golds_mean_golds(base):
    trainer = make_trainer(base, Scorer())
    for keys in ({"loss": "ce"}, {"reference": "frozen"}):
        said = recipe(base, **keys)
        assert both(trainer_form(said, trainer)) == ("anchored", "golds")
        check_trainer_fits(said, trainer, grpo=True)
        with pytest.raises(
            InputError, match=r"are for golds, and `rehearsal\.grpo: literal` has none"
        ):
            check_trainer_fits(recipe(base, grpo="literal", **keys), trainer, grpo=True)


def test_a_run_goes_on_with_the_form_it_began_with(tmp_path):
    literal = Form("literal", "adapter_off", "so")
    record = {"seq": 0, "kind": "started", "step": 0, "rehearsal_form": literal.record()}
    (tmp_path / "ledger.jsonl").write_text(json.dumps(record) + "\n")
    require_same_form(tmp_path, literal)
    require_same_form(tmp_path, Form("literal", "trainer", "otherwise"))
    with pytest.raises(InputError, match=r"began with general prompts .* would be with golds"):
        require_same_form(tmp_path, Form("anchored", "no_reference", "no"))
