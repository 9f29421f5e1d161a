"""Heads that learn from what their target makes of the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from specterm.decoding.ports import Runner
from specterm.errors import ConfigError
from specterm.models.heads import READERS
from specterm.models.heads.feature_heads import FeatureHeads
from specterm.training.features import Features, target_features
from specterm.training.learner import adam, model_optimizers


class Recipe(Protocol):
    """One kind of heads: what they read of the target, what they learn, and how they are written."""

    taps: tuple[int, ...]
    module: nn.Module

    def loss(self, features: Features) -> Tensor:
        """What is minimised, in nats a token."""

    def save(self, folder: Path) -> None:
        """Write the heads as they are now."""


class HeadLearner:
    """See `Learner`. The target stays as it is."""

    def __init__(self, recipe: Recipe, target: Runner) -> None:
        self.module = recipe.module
        self._recipe, self._target = recipe, target

    def loss(self, ids: Tensor) -> Tensor:
        """The recipe's, on the target's features of `ids`."""
        return self._recipe.loss(target_features(self._target, ids, self._recipe.taps))

    def optimizers(self, learning_rate: float) -> list[Optimizer]:
        """Muon for the matrices of heads with layers, and AdamW at a share of its rate for the rest; AdamW for all of
        the others."""
        if isinstance(self.module, FeatureHeads):
            return model_optimizers(self.module, learning_rate)
        return [adam(list(self.module.parameters()), learning_rate)]

    def save(self, folder: Path) -> None:
        """See `Recipe`."""
        self._recipe.save(folder)


class StartingHeads:
    """Heads that were trained before, perhaps for an earlier form of their target, to go on from."""

    def __init__(self, kind: str, folder: Path, target: Runner) -> None:
        """Raises:
        ModelError: there are none in `folder`, or they do not fit the target.
        """
        self._kind, self._folder, self._found = kind, folder, READERS[kind](folder, target)

    @property
    def sizes(self) -> dict[str, Any]:
        """The fields of a `RecipeSetup` that make heads of the same sizes."""
        found = self._found
        match self._kind:
            case "medusa":
                return {"heads": found.heads, "vocabulary": found.token_ids}
            case "mlp":
                return {"heads": found.levels, "inner_dim": found.inner_size}
        return {"intermediate": found.config.intermediate, "vocabulary": found.token_ids}

    def give(self, recipe: Recipe) -> None:
        """Put the weights into the recipe's heads.

        Raises:
            ConfigError: heads of this form are not trained here.
        """
        made = recipe.module
        try:
            if isinstance(made, FeatureHeads):
                _check_options(made, self._found)
            made.load_state_dict(self._found.state_dict())
        except (RuntimeError, ValueError):
            raise ConfigError(
                f"--start: the {self._kind} heads in {self._folder} are of another form than those that are trained "
                "here; begin without it"
            ) from None


def _check_options(made: FeatureHeads, found: FeatureHeads) -> None:
    """Raises:
    ValueError: the two compute differently.
    """
    ours, theirs = made.config.options, found.config.options
    switches = {key for key in (*ours, *theirs) if isinstance(ours.get(key, theirs.get(key)), bool)}
    if made.taps != found.taps or any(bool(ours.get(key)) != bool(theirs.get(key)) for key in switches):
        raise ValueError("other options")
