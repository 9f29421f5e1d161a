"""The recipe of the MLP speculator: the target stays as it is, every level reads the true token before its own."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from specterm.decoding.ports import FINAL_NORM
from specterm.models.heads.mlp import MLPSpeculator
from specterm.training.features import Features
from specterm.training.saving import save_heads
from specterm.training.setup import RecipeSetup

_DISCOUNT = 0.8  # of each further level's loss: it is reached less often


class MLPRecipe:
    """See `Recipe`."""

    taps: tuple[int, ...] = (FINAL_NORM,)

    def __init__(self, setup: RecipeSetup) -> None:
        """A tied speculator, whose tables begin as cuts of the target's."""
        target, inner = setup.target, setup.inner_dim or setup.target.hidden_size
        made = MLPSpeculator.untrained(target.embedding_weight(), target.head_weight(), inner, setup.heads)
        self.module: nn.Module = made.to(target.device).requires_grad_()
        self._speculator, self._name = made, setup.published_name

    def loss(self, features: Features) -> Tensor:
        """Cross-entropy against the target's distribution: level i at token t, having read the true tokens up to
        t + 1 + i, against what the target says after them. In nats, a weighted mean over the levels."""
        levels, length = self._speculator.levels, features.ids.shape[1]
        judged = length - levels  # positions whose every level has a target to learn from
        wanted = features.logits.float().softmax(dim=-1)
        states = self._speculator.begin(features.states[:, :judged].float())
        total, weight = states.new_zeros(()), 1.0
        for level in range(levels):
            read = slice(1 + level, 1 + level + judged)
            logits, states = self._speculator(states, features.ids[:, read], level)
            total = total - weight * (wanted[:, read] * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
            weight *= _DISCOUNT
        return total * (1.0 - _DISCOUNT) / (1.0 - weight)

    def save(self, folder: Path) -> None:
        """Write the speculator in the published layout."""
        made = self._speculator
        config = {
            "architectures": ["MLPSpeculatorPreTrainedModel"],
            "base_model_name_or_path": self._name,
            "emb_dim": made.hidden_size,
            "inner_dim": made.inner_size,
            "model_type": "mlp_speculator",
            "n_predict": made.levels,
            "scale_input": True,
            "tie_weights": True,
            "vocab_size": made.vocab_size,
        }
        save_heads(folder, made.published(), config)
