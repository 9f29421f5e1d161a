"""What kernels of the next token are told, in words of 64 bits: where each stands."""

from __future__ import annotations

from enum import IntEnum, auto


class WarpWord(IntEnum):
    """Of warps: see `sampling.Warps`."""

    TEMPERATURE = 0  # the bits of a float32; 0: greedy
    TOP_K = auto()  # 0: none
    TOP_P = auto()  # the bits of a float64; 1: none
    MIN_P = auto()  # the bits of a float32; 0: none


class WalkWord(IntEnum):
    """Of a walk through a draft; T nodes with the root, N without."""

    LOGITS = 0  # float32 [T, VOCAB]
    VOCAB = auto()
    NODES = auto()  # N
    TOKENS = auto()  # int64 [N]
    PARENTS = auto()  # int64 [T], of nodes, each smaller than its own number; 0: a chain
    LAWS = auto()  # float32 [N, VOCAB], that the nodes of a chain were drawn from; 0: they are fixed
    WARPS = auto()  # see `WarpWord`
    TARGET_KEY = auto()  # of random numbers: see `sampling.Purpose`
    RATIO_KEY = auto()
    RESIDUAL_KEY = auto()
    POSITION = auto()  # of the root
    ROUND = auto()  # the index of the first of the round's random numbers
    ROOM = auto()  # float32 [2, VOCAB]
    PATH = auto()  # int64 [T + 1]: how many nodes are kept, the token behind them, and their numbers
