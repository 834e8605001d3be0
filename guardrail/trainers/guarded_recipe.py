"""A recipe with what it names: its sets, read and kept apart, and its anchors, made if absent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import Self

from guardrail.anchors.make import Engine, make_anchors
from guardrail.anchors.store import Anchors, manifest_difference, read_anchors, require_answers
from guardrail.engines.in_process import InProcessEngine
from guardrail.errors import InputError
from guardrail.models.load import load_model, on_accelerator
from guardrail.models.profile import Profile
from guardrail.probes.business_probes import check_business_probes, read_business
from guardrail.recipe import Recipe, read_recipe, with_model_folders
from guardrail.sets.items import Item, check_apart, read_items
from guardrail.trainers.anchor_server import AnchorServer
from guardrail.trainers.checks.wanted_anchors import wanted_manifest

__all__ = ["GuardedRecipe"]


@dataclass(slots=True)
class GuardedRecipe:
    """A recipe with its sets read and its anchors at hand."""

    recipe: Recipe
    red_line: list[Item]
    rehearsal: list[Item]
    reading: Mapping[str, Any] = field(default_factory=dict)
    """What became of the training rows when they were read, as the ledger's header has it; empty where nobody read them."""
    _anchors: Anchors | None = None

    @classmethod
    def from_recipe(cls, recipe: str | Path | Recipe) -> Self:
        """Read a recipe and its sets; models of a hub are downloaded.

        Raises:
            InputError: recipe or sets break a rule, an item is both judged and injected, or a probe of the business's is wrong.
        """
        checked = with_model_folders(recipe if isinstance(recipe, Recipe) else read_recipe(recipe))
        red_line = read_items(checked.sets.red_line)
        rehearsal = read_items(checked.sets.rehearsal)
        check_apart(red_line, rehearsal)
        check_business_probes(read_business(checked.probes.files), red_line)
        return cls(checked, red_line, rehearsal)

    def anchors(
        self,
        *,
        rebuild: bool = False,
        on_progress: Callable[[str, int, int], None] | None = None,
        server: AnchorServer | None = None,
    ) -> Anchors:
        """Return the recipe's anchors, made now if absent, and read once.

        Args:
            rebuild: Whether anchors that are there are made anew.
            on_progress: Told the part in hand, how much of it is done and how much it is.
            server: Answers in the gold base's place; a KL reference that is another model still scores here.

        Raises:
            InputError: anchors are there but were made by something else; every difference is named. Or the
                server is not the gold base's.
        """
        folder = Path(str(self.recipe.anchors))
        wanted = wanted_manifest(self.recipe, self.red_line, self.rehearsal)
        if rebuild:
            (folder / "manifest.json").unlink(missing_ok=True)
        elif self._anchors is not None:
            return self._anchors
        if (folder / "manifest.json").is_file():
            anchors = self.stored_anchors()
            self.check_anchors(anchors)
            self._anchors = anchors
            return anchors
        gold: Engine
        if server is None:
            gold = self._engine(self.recipe.gold_base, wanted.profile)
        else:
            gold, wanted = server.engine(self.recipe, wanted, self.red_line, self.rehearsal)
        same = wanted.kl_reference == wanted.gold_base
        reference = gold if same else self._engine(str(self.recipe.kl_reference), wanted.profile)
        self._anchors = make_anchors(
            folder, wanted, self.red_line, self.rehearsal, gold, reference, on_progress
        )
        return self._anchors

    def stored_anchors(self) -> Anchors:
        """Return the anchors on disk, whoever made them.

        Raises:
            InputError: they are absent, damaged, or lack an item of the sets.
        """
        folder = Path(str(self.recipe.anchors))
        anchors = read_anchors(folder)
        require_answers(folder, anchors, [i.id for i in (*self.red_line, *self.rehearsal)])
        return anchors

    def anchors_exist(self) -> bool:
        """Return whether somebody made the recipe's anchors, whatever they are of."""
        return (Path(str(self.recipe.anchors)) / "manifest.json").is_file()

    def anchors_standing(self) -> str:
        """Return whether the recipe's anchors are `absent` or `present`.

        Raises:
            InputError: they are there but were made by something else.
        """
        folder = self.recipe.anchors
        if not self.anchors_exist():
            return f"absent, will be made in {folder}"
        self.check_anchors(self.stored_anchors())
        return f"present in {folder}"

    def check_anchors(self, anchors: Anchors) -> None:
        """Raise an InputError that names every difference if the anchors are another base's."""
        wanted = wanted_manifest(self.recipe, self.red_line, self.rehearsal)
        differences = manifest_difference(anchors.manifest, wanted)
        if differences:
            raise InputError(
                f"anchors `{self.recipe.anchors}` do not fit the recipe: {'; '.join(differences)}. Run "
                "`guardrail anchor RECIPE --rebuild`, or give the recipe another `anchors` folder"
            )

    def _engine(self, folder: str, profile: Profile) -> InProcessEngine:
        model, tokenizer = load_model(folder, quantization=self.recipe.train.quantization)
        looks = self.recipe.looks
        return InProcessEngine(
            on_accelerator(model), tokenizer, looks.decoding, profile, looks.batch_size
        )
