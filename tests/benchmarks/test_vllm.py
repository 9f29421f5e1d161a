"""Against vLLM on the same processor, one request at a time, in turns:

SPECTERM_VLLM=/path/to/vllm python -m pytest -m full -n 0 -s tests/benchmarks/test_vllm.py
"""

from __future__ import annotations

import statistics

import pytest
import torch
from contenders import CLOCK, CLOCKS, Ours, Ratio, interleaved, stories
from vllm_server import PROGRAM, VllmServer

from specterm.models.folders import BUILTIN_FOLDER

TOKENS = 128
PROMPTS = 4
REPEATS = 7
GAMMA = 4

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(PROGRAM is None, reason="SPECTERM_VLLM does not name a vllm program, and none is on the PATH"),
    pytest.mark.skipif(CLOCKS["wall"] is not CLOCK, reason="a server's time is the wall clock's"),
]


def test_against_vllm(tmp_path):
    threads, requests = torch.get_num_threads(), stories(PROMPTS)
    ours = Ours("bfloat16")
    draft = {"method": "draft_model", "model": str(BUILTIN_FOLDER / "draft"), "num_speculative_tokens": GAMMA}
    with (
        VllmServer(tmp_path / "naive.log", threads) as naive,
        VllmServer(tmp_path / "draft.log", threads, draft) as speculating,
    ):
        contenders = {
            "naive": ours.contender("naive", TOKENS),
            "draft": ours.contender("draft", TOKENS, num_draft_tokens=GAMMA),
            "vLLM": naive.contender(TOKENS),
            "vLLM draft_model": speculating.contender(TOKENS),
        }
        outputs = {name: contender(requests).ids for name, contender in contenders.items()}
        assert all(len(ids) == TOKENS for rows in outputs.values() for ids in rows)
        rates = interleaved(contenders, requests, REPEATS)
        accepted = speculating.metric("vllm:spec_decode_num_accepted_tokens_total")
        assert accepted > 0, "this vLLM does not speculate"
        length = 1 + accepted / speculating.metric("vllm:spec_decode_num_drafts_total")
    ratios = {
        "naive": (Ratio.of(rates["naive"], rates["vLLM"]), 1.0),
        "draft": (Ratio.of(rates["draft"], rates["vLLM draft_model"]), 1.25),
    }
    same = {name: sum(a == b for a, b in zip(ids, outputs["naive"], strict=True)) for name, ids in outputs.items()}
    print(f"\nagainst vLLM, bfloat16 (torch {torch.__version__}, {threads} threads, {TOKENS} tokens, greedy)")
    for name, own in rates.items():
        print(f"  {name:18} {statistics.median(own):7.1f} token/s, {same[name]} of {PROMPTS} outputs as naive's")
    print(f"  vLLM's mean acceptance length: {length:.2f}")
    for name, (ratio, wanted) in ratios.items():
        print(f"  {name:18} {ratio}, wanted {wanted}x")
    for name, (ratio, wanted) in ratios.items():
        assert ratio.median >= wanted, (name, ratio)
