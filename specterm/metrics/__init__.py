"""Events to figures, in the field's terms: pure functions of the stream, live, replayed or remote.

One accumulator, `RowCounter`, counts; `row_results` runs one for each row and adds energy, `LiveFigures` runs one as
the events come. Every figure has a name of `METRICS`; one that was not measured is None, never 0.

=======================  ===============================================================================================
figure                   definition
=======================  ===============================================================================================
ttft_s                   arrival of the prompt to its first token
latency_s                arrival of the prompt to the end of its row
tpot_s                   (latency - ttft) / (output tokens - 1): rounds of several tokens do not skew it
throughput_tok_s         output tokens / latency; prefill and waiting are included
reused_tokens            tokens of the prompt whose keys and values the target had kept: ttft_s is that of the rest
output_tokens            tokens of the output, with the end-of-sequence token, without what a stop string cut
rounds                   rounds in which the row took part; their host seconds count in full for each such row
target_passes            rounds + 1 for the prefill, which carries token one
drafted, accepted        draft tokens judged or not; those kept (not those cut by the end of the row)
rejected                 draft tokens that the target judged and refused
prefill_time_s           of the row's own prompt, through target and drafter
draft_time_s             proposing, and learning what was emitted
verify_time_s            the target's forward passes
sampling_time_s          the rule's judgement, up to the copy to the host; None where it is part of verifying
other_time_s             bookkeeping, and those who read the events
wait_time_s              for the run's setup, a place in the batch, other rows' prefills; the six add up to the latency
tree_nodes               mean nodes of a draft tree; this and the next two are None unless some tree branched
branching_factor         nodes / nodes (roots included) that have children
tree_efficiency          accepted / nodes verified
draft_acceptance_rate    accepted / drafted
mean_acceptance_length   (output tokens - 1) / rounds: EAGLE's tau, Spec-Bench's #MAT
accepted_per_draft       1 + accepted / rounds that had a draft: vLLM's mean acceptance length
per_position_acceptance  accepted at depth 1, 2, ... / rounds that had a draft
per_drafter_acceptance   accepted / drafted of each drafter; None where the stream does not record who drafted
token_wastage            1 - draft acceptance rate
overhead                 mean round time / mean naive step time; None without naive in the same run
efficiency_gain          1 - target passes / output tokens
speedup                  throughput / naive's throughput on the same prompt; None without naive in the same run
repetition               share of 4-grams of token ids that occurred before
energy_j                 the generation window's (first token to end), shared with rows decoded in it by emitted tokens
joules_per_token         energy_j / tokens emitted in that window (all but token one)
=======================  ===============================================================================================
"""

from specterm.metrics.counting import METRICS, Figure
from specterm.metrics.live import LiveFigures
from specterm.metrics.rows import RowResult, against_naive, row_results

__all__ = ["METRICS", "Figure", "LiveFigures", "RowResult", "against_naive", "row_results"]
