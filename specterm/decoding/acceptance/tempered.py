"""The exact rule with an acceptance temperature tau: keep x with probability min(1, (p(x) / q(x))^(1 / tau)).

At tau = 1 it is the exact rule, whatever temperature the drafter has. Above 1 more is accepted and the output is not
the target's any more; the token behind a refusal still comes from norm(max(p - q, 0)). Below 1 nothing would be gained:
tokens that the target would keep were refused, and the law would be wrong as well.
"""

from __future__ import annotations

from torch import Tensor

from specterm.decoding.acceptance.exact import Exact
from specterm.decoding.acceptance.multi_candidate import multi_candidate
from specterm.decoding.ports import Judging
from specterm.decoding.sampling import probabilities
from specterm.decoding.tree import DraftTree
from specterm.decoding.verdict import HostVerdict, Verdict


class Tempered:
    """Verification with a lenient ratio test."""

    def __init__(self, *, acceptance_temperature: float = 1.0) -> None:
        self._temperature = acceptance_temperature

    def verify(self, tree: DraftTree, logits: Tensor, judging: Judging) -> Verdict | HostVerdict:
        """See `Rule.verify`. Greedy decoding is the exact rule's."""
        if judging.warps.greedy or tree.nodes == 0 or self._temperature == 1.0:
            return Exact().verify(tree, logits, judging)
        return multi_candidate(tree, probabilities(logits, judging.warps), judging, temperature=self._temperature)
