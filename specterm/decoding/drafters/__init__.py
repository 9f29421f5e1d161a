"""The ways to draft, one file a family; `DRAFTERS` maps the catalogue's names to their builders, but for plug-ins."""

from __future__ import annotations

from collections.abc import Callable

from specterm.catalogue.plugins import PLUGINS
from specterm.decoding.drafters.checked import CheckedDrafter
from specterm.decoding.drafters.draft_model import DraftModel
from specterm.decoding.drafters.eagle import Eagle
from specterm.decoding.drafters.early_exit import build_early_exit
from specterm.decoding.drafters.medusa import Medusa
from specterm.decoding.drafters.mlp import MLP
from specterm.decoding.drafters.multi_draft import MultiDraft
from specterm.decoding.drafters.naive import Naive
from specterm.decoding.drafters.nasd import Nasd
from specterm.decoding.drafters.ngram import Ngram
from specterm.decoding.drafters.sampled_tree import build_tree
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.drafters.suffix import Suffix
from specterm.decoding.ports import Drafter

Builder = Callable[[DraftSetup], Drafter]

DRAFTERS: dict[str, Builder] = {
    "naive": Naive.build,
    "draft": DraftModel.build,
    "ngram": Ngram.build,
    "nasd": Nasd.build,
    "suffix": Suffix.build,
    "sequential": MultiDraft.build_sequential,
    "tree": build_tree,
    "medusa": Medusa.build,
    "eagle": Eagle.build_eagle,
    "eagle3": Eagle.build_eagle3,
    "mlp": MLP.build,
    "early-exit": build_early_exit,
}


def build_drafter(method: str, setup: DraftSetup) -> Drafter:
    """The drafter of a method of the catalogue; what a plug-in proposes is checked.

    Raises:
        SpectermError: it cannot be built from `setup`.
    """
    if method in PLUGINS:
        return CheckedDrafter(PLUGINS[method], setup)
    return DRAFTERS[method](setup)
