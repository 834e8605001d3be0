import codecs

import pytest
import yaml

from guardrail.errors import InputError
from guardrail.launchers.launch_command import launch_command
from guardrail.recipe import read_recipe, require_rows

GOOD = {
    "name": "mine",
    "gold_base": "shipped:recipes/toy/base",
    "sets": {"red_line": "red.jsonl", "rehearsal": "reh.jsonl"},
    "train": {"data": "data.jsonl"},
}


def write(tmp_path, **changes):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes, allow_unicode=True), encoding="utf-8")
    return path


def test_paths_are_relative_to_the_recipe_and_defaults_are_filled_in(tmp_path):
    recipe = read_recipe(write(tmp_path))
    assert recipe.sets.red_line == str(tmp_path / "red.jsonl")
    assert recipe.start_model == recipe.kl_reference == recipe.gold_base
    assert recipe.gold_base.endswith("recipes/toy/base")
    assert recipe.replicates == 4


def test_greedy_decoding_needs_one_replicate(tmp_path):
    recipe = read_recipe(write(tmp_path, looks={"decoding": {"mode": "greedy"}}))
    assert recipe.replicates == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colour": "red"}, "unknown key `colour`"),
        ({"rehearsal": {"fractoin": 0.03}}, "unknown key `rehearsal.fractoin`"),
        ({"rehearsal": {"fraction": 0.2}}, r"between 0.01 and 0.10, got 0.2"),
        ({"rehearsal": {"fraction": 0.07}}, "allow_large_fraction"),
        ({"rehearsal": {"weight": 0}}, "rehearsal.weight"),
        ({"rehearsal": {"order": "by need", "loss": "ce"}}, "does not measure"),
        (
            {"trainer": "trl-grpo", "rehearsal": {"order": "stratified", "grpo": "literal"}},
            "injects none",
        ),
        (
            {"drift": {"margins": {"beauty": {"margin": 0.1, "critical": 0.2}}}},
            "unknown metric `beauty`",
        ),
        ({"drift": {"margins": {"passed": {"margin": 0.1, "critical": 0.05}}}}, "critical"),
        ({"seed": 1, "train": {"data": "d", "arguments": {"seed": 2}}}, "keep one of them"),
        ({"train": {"data": "d", "arguments": {"output_dir": "x"}}}, "output_dir"),
        (
            {
                "looks": {"engine": "sidecar"},
                "train": {"data": "d", "arguments": {"load_best_model_at_end": True}},
            },
            "does not go with `looks.engine: sidecar`",
        ),
        ({"seed": True}, r"`seed`: a number is wanted, got true$"),
        ({"rehearsal": {"weight": False}}, r"`rehearsal.weight`: a number is wanted, got false"),
        ({"looks": {"samples": True}}, r"`looks.samples`: a number is wanted, got true"),
        ({"name": "../up"}, "name"),
        ({"trainer": "axolotl"}, "trainer"),
    ],
)
def test_a_broken_rule_is_named_with_key_and_value(tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        read_recipe(write(tmp_path, **changes))


@pytest.mark.parametrize("name", ["客服微调-1", "сбор_долгов.2", "ordinary-1.5"])
def test_a_run_may_be_named_in_any_script(tmp_path, name):
    recipe = read_recipe(write(tmp_path, name=name))
    assert recipe.name == name
    assert recipe.anchors.endswith(f"anchors/{name}")
    assert (
        f"runs/{name}"
        in launch_command(
            recipe, "mine.yaml", tmp_path / "runs" / name, changes=(), resume=False, node=None
        ).as_shell()
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("客服 微调", "letters and digits of any script.* such as `客服微调-1`, got '客服 微调'"),
        ("客服/微调", "letters and digits of any script"),
        (".客服", "letters and digits of any script"),
        (
            "客" * 51,
            "at most 150 bytes, that is 150 Latin letters or 50 Chinese characters, got 153",
        ),
    ],
)
def test_a_name_that_no_folder_should_have_is_refused_with_an_example(tmp_path, name, said):
    with pytest.raises(InputError, match=said):
        read_recipe(write(tmp_path, name=name))


def test_all_errors_are_named_at_once(tmp_path):
    with pytest.raises(InputError, match=r"`seed`.*`colour`"):
        read_recipe(write(tmp_path, colour="red", seed=-1))


def test_a_name_with_line_ends_leaves_the_error_one_line(tmp_path):
    with pytest.raises(InputError, match="unknown metric `a b`") as refused:
        read_recipe(
            write(tmp_path, drift={"margins": {"a\n\nb": {"margin": 0.1, "critical": 0.2}}})
        )
    assert "\n" not in str(refused.value)


def test_a_missing_key_and_a_missing_recipe(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("name: x\n")
    with pytest.raises(InputError, match="key `gold_base` is missing"):
        read_recipe(path)
    with pytest.raises(InputError, match="neither a file nor a shipped recipe"):
        read_recipe(tmp_path / "absent.yaml")


def test_broken_yaml_names_the_file(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("a: [1\n")
    with pytest.raises(InputError, match=r"r\.yaml` is not valid YAML"):
        read_recipe(path)


def test_a_large_fraction_may_be_meant(tmp_path):
    recipe = read_recipe(
        write(tmp_path, rehearsal={"fraction": 0.08, "allow_large_fraction": True})
    )
    assert recipe.rehearsal.fraction == 0.08


@pytest.mark.parametrize(
    ("changes", "meant"),
    [
        ({"rehearsal": {"fractoin": 0.03}}, "rehearsal.fraction"),
        ({"looks": {"decoding": {"temprature": 0.7}}}, "looks.decoding.temperature"),
        ({"gold_bas": "x"}, "gold_base"),
        ({"every_steps": 20}, "looks.every_steps"),
        ({"learning_rate": 1e-5}, "train.arguments.learning_rate"),
        ({"looks": {"min_items": 20}}, "drift.min_items"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_misspelt_or_misplaced_key_is_asked_after(tmp_path, changes, meant):
    with pytest.raises(InputError, match=rf"\(did you mean `{meant}`\?\)"):
        read_recipe(write(tmp_path, **changes))


def test_a_key_like_no_other_is_not_guessed_at(tmp_path):
    with pytest.raises(InputError, match="unknown key `colour`; remove it"):
        read_recipe(write(tmp_path, colour="red"))


def test_a_misspelt_shipped_recipe_is_asked_after():
    with pytest.raises(InputError, match=r"did you mean `toy-sft`\?"):
        read_recipe("toy-sf")


def test_a_recipe_may_begin_with_the_mark_of_utf8(tmp_path):
    path = write(tmp_path)
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert read_recipe(path).name == "mine"


@pytest.mark.parametrize(("encoding", "said"), [("gbk", "GBK"), ("utf-16", "UTF-16")])
def test_another_encoding_is_named_with_the_way_out(tmp_path, encoding, said):
    path = write(tmp_path)
    text = "# 配方：只改这几行\n" + path.read_text(encoding="utf-8")
    path.write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match=f"is not UTF-8 but {said}.*iconv -f {said} -t UTF-8"):
        read_recipe(path)


def test_only_guardrail_run_wants_rows(tmp_path):
    """A script brings them itself: it and `check` read a recipe without."""
    recipe = read_recipe(write(tmp_path, train={}))
    with pytest.raises(InputError, match=r"key `train\.data` is missing, and `guardrail run`"):
        require_rows(recipe)
    with pytest.raises(InputError, match=r"key `train\.data` is missing"):
        launch_command(recipe, "mine", tmp_path)
    require_rows(read_recipe(write(tmp_path, trainer="ms-swift", train={})))
