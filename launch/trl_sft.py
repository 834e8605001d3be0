"""Your own TRL script with the guard attached: the two marked lines are all that is new.

Run: python launch/trl_sft.py toy-sft runs/mine
"""

import json
import sys
from pathlib import Path

import datasets
import transformers
import trl

from guardrail.recipe import read_recipe
from guardrail.trainers.attach import Guardrail  # new
from guardrail.watch.report import build_report


def main(recipe_name: str, out: str) -> None:
    """Fine-tune with everything from the recipe; replace the parts below by your own."""
    recipe = read_recipe(recipe_name)
    lines = Path(recipe.train.data).read_text(encoding="utf-8").splitlines()
    rows = [{"messages": json.loads(line)["messages"]} for line in lines]
    trainer = trl.SFTTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(recipe.gold_base),
        processing_class=transformers.AutoTokenizer.from_pretrained(recipe.gold_base),
        args=trl.SFTConfig(
            **(
                recipe.train.arguments
                | {"output_dir": out, "seed": recipe.seed, "report_to": "none"}
            )
        ),
        train_dataset=datasets.Dataset.from_list(rows),
    )
    Guardrail.from_recipe(recipe).attach(trainer)  # new
    trainer.train()
    print(build_report(Path(out)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
