"""Your own TRL script with the guard attached: the marked lines are all that is new.

Run: python launch/trl_sft.py toy-sft runs/mine

While it trains, the guard says looks and actions on standard error; at the end, also after a halt or a crash,
it writes the report and says how it ended. The script exits as `guardrail run` does: 3 where the guard halted.
"""

import json
import sys
from pathlib import Path

import datasets
import transformers
import trl

from guardrail.recipe import read_recipe
from guardrail.trainers.attach import Guardrail  # new


def main(recipe_name: str, out: str) -> int:
    """Fine-tune with everything from the recipe; replace the parts below by your own. Return the exit code."""
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
    guard = Guardrail.from_recipe(recipe).attach(trainer)  # new
    trainer.train()
    return guard.exit_code  # new; `guard.halted` says whether the guard stopped it


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
