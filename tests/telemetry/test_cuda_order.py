"""CUDA_VISIBLE_DEVICES, read as CUDA reads it."""

from __future__ import annotations

import pytest

from specterm.telemetry.cuda_order import visible

UUIDS = ("GPU-aaaa1111", "GPU-aaaa2222", "GPU-bbbb3333")


@pytest.mark.parametrize(
    ("setting", "indices"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("0,-1,2", [0]),
        ("1,7,2", [1]),
        ("GPU-bbbb", [2]),
        ("GPU-aaaa2222,0", [1, 0]),
        ("GPU-aaaa", []),  # two GPUs begin so
        ("0,0", []),
        ("0,GPU-aaaa1111", []),  # the same GPU twice
        ("gpu0", []),
    ],
)
def test_which_gpus_are_visible_and_in_which_order(setting: str | None, indices: list[int]) -> None:
    assert [index for index, _ in visible(UUIDS, setting)] == indices


def test_a_mig_slice_is_named_by_its_uuid() -> None:
    assert visible(UUIDS, "MIG-1234,1") == [(-1, "MIG-1234"), (1, None)]


def test_a_gpu_without_a_readable_uuid_can_be_named_by_index_only() -> None:
    assert visible([None, "GPU-1"], "GPU-1,0") == [(1, None), (0, None)]
