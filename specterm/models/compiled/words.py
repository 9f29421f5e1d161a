"""Where the words that describe models, passes, chains and beams to kernels stand, 64 bits each; those of layers are in
`layers`."""

from __future__ import annotations

from enum import IntEnum, auto


class ModelWord(IntEnum):
    """Of a model."""

    LAYERS = 0  # see `layers`
    TABLE = auto()  # [TOKENS, hidden], the embeddings
    TOKENS = auto()
    NORM = auto()  # float32 [hidden], the last one; 0: none
    HEAD = auto()  # in panels
    VOCAB = auto()  # of the head
    FRONT = auto()  # of what begins with a product: the matrix, in panels, whose input is 2 * hidden wide
    FRONT_BIAS = auto()  # up to the end of the last panel; 0: none
    TABLE_NORM = auto()  # of what begins without: the norms of embeddings (0: none) and of features
    FEATURE_NORM = auto()
    RESIDUAL_NORMED = auto()  # whether the residual stream is the normed feature


class CallWord(IntEnum):
    """Of what is asked of a pass, whose N tokens are described by the words of `layers`."""

    IDS = 0  # int64 [N]
    LAYERS = auto()  # how many of them
    TAPS = auto()  # states are wanted so many times
    TAPPED = auto()  # int64 [TAPS], ascending: in front of which layer; LAYERS: behind the norm; above: in front of it
    TAP_AT = auto()  # int64 [TAPS], where in a row of STATES
    STATES = auto()  # float32 [N, TAPS * hidden]
    JUDGED = auto()  # logits are wanted of so many tokens
    PICKS = auto()  # int64 [JUDGED], which; 0: the first ones
    LOGITS = auto()  # float32 [JUDGED, VOCAB]
    FEATURES = auto()  # float32 [N, hidden], of heads


class ChainWord(IntEnum):
    """Of a chain."""

    MOST = 0  # tokens
    LEAST = auto()  # float32: the chain ends with the token at which the product of probabilities falls below it
    CHOICE = auto()  # among so many of the vocabulary
    DRAWN = auto()  # int64 [MOST + 1]: the tokens, and behind the room for them how many there are
    SHARES = auto()  # float32 [MOST]: their probabilities; of greedy chains
    WARPS = auto()  # what the tokens are drawn by, see `WarpWord`; 0: a greedy chain
    KEY = auto()  # of the random numbers, and the index of the first one
    INDEX = auto()
    LAWS = auto()  # float32 [MOST, WIDTH], that the tokens are drawn from; what lies behind CHOICE is not written
    WIDTH = auto()
    ROOM = auto()  # float32 [CHOICE]


class StrideWord(IntEnum):
    """Of rounds of one row: up to ROUNDS of them; afterwards that word says how many there were. T tokens are verified
    in a round: the root and up to MOST nodes; a path has up to DEPTH nodes."""

    ROUNDS = 0
    MOST = auto()
    DEPTH = auto()
    START = auto()  # the slot of the first root
    INDEX = auto()  # of the first random number of a round, and how far it is to the next round's
    INDEX_STEP = auto()
    MODEL = auto()  # the target, see `ModelWord`
    PASS = auto()  # of 1 + MOST tokens, see `PassWord`; fewer take part
    CALL = auto()  # likewise, see `CallWord`
    PLACES = auto()  # int64: the positions of its slots
    IDS = auto()  # int64 [1 + MOST], what the call's IDS are: the first root in front
    WALK = auto()  # see `WalkWord`; its PATH has room for 1 + DEPTH nodes
    LOGITS_STEP = auto()  # bytes from the logits of a round, the call's and the walk's, to those of the next one
    ENDS = auto()  # int64 [END_COUNT]: a round that brings one of these is the last one
    END_COUNT = auto()
    RECORDS = auto()  # int64 [ROUNDS, strides.record_size], see `strides.Record`
    DRAFTERS = auto()  # addresses, see `DrafterWord`
    TREE = auto()  # where drafts are trees, see `TreeWord`
    LOOKUP = auto()  # where they are looked up, see `LookupWord`


class DrafterWord(IntEnum):
    """Of a model that drafts, in strides."""

    MODEL = 0
    PASS = auto()  # over what is pending, 1 + DEPTH tokens at most
    CALL = auto()
    STEP = auto()  # over one token, of chains
    STEP_CALL = auto()
    PLACES = auto()  # int64: the positions of its slots
    IDS = auto()  # int64 [1 + DEPTH], what is pending: PENDING tokens that go to slots from START on
    PENDING = auto()
    START = auto()
    WORDS = auto()  # see `ChainWord` or `BeamWord`
    SHARED = auto()  # whether its cache is the target's, which has all true tokens but for the root


class LookupWord(IntEnum):
    """Of lookups, in strides."""

    TEXT = 0  # int64 [LENGTH and room for all that a stride brings, and a draft]
    LENGTH = auto()
    LONGEST = auto()  # ends of the text that are looked up, in tokens
    SHORTEST = auto()


class TreeWord(IntEnum):
    """Of trees in strides: of C candidates at most, MOST are verified. Arrays of candidates are as they were found."""

    TOKENS = 0  # int64 [C]
    PARENTS = auto()  # int64 [C], -1: the root
    DEPTHS = auto()  # int64 [C]
    CONFIDENCES = auto()  # float64 [C], see `candidates.Node`
    SCORES = auto()  # float64 [C]
    SOURCES = auto()  # int64 [C], bits
    NODES = auto()  # int64 [width * width], by the paths of a level: what each has led to
    NEXT_NODES = auto()
    ORDER = auto()  # int64 [MOST], the candidates that are verified, by falling score
    PLACE = auto()  # int64 [C], where a candidate is among the nodes, from 1
    ABOVE = auto()  # int64 [T], the parents of nodes, the root's its own
    SEEN = auto()  # bytes [T, T], what nodes see
    POSITIONS = auto()  # int64 [T]
    MOVES = auto()  # int64 [DEPTH, 2]: slots to, and from
    CACHE = auto()  # what `moves.move` is told: layers, their number, offset, heads, capacity and size
    RIGHT = auto()  # float64, see `Plan`, and what follows
    SIZES = auto()  # int64 [SIZE_COUNT]
    SIZE_COUNT = auto()
    PASS_S = auto()  # float64 [SIZE_COUNT]
    DRAFT_S = auto()  # float64 [drafters * DEPTH + 1], by levels
    WORTHS = auto()  # float64 likewise; 0: all paths always go on


class BeamWord(IntEnum):
    """Of beams that grow from one row: up to DEPTH levels of RANKS paths at most. The first pass judges the
    root, its last token; `PASSES` and `CALLS` describe those over the nodes of a level, by how many they are."""

    DEPTH = 0
    RANKS = auto()  # candidates below each path; those that go on
    FOUND = auto()  # tokens that are told of below each path, the candidates first
    CHOICE = auto()  # among so many of the vocabulary
    ROOT = auto()  # its slot, and position
    POSITIONS = auto()  # how many there are; nodes beyond stand at the last one
    FIRST_PASS = auto()  # see `PassWord`
    FIRST_CALL = auto()  # see `CallWord`
    PASSES = auto()  # addresses [RANKS + 1]
    CALLS = auto()
    IDS = auto()  # int64 [RANKS], what the calls' IDS are
    LOGITS = auto()  # float32 [RANKS, VOCAB], likewise; the first call's too
    TOKEN_IDS = auto()  # int64 [VOCAB], the target's; 0: the same
    RIGHT = auto()  # float64; WORTHS: float64 [DEPTH], 0: all paths always go on; PATH: float64. See `Budget.paths`.
    WORTHS = auto()
    PATH = auto()
    LEVELS = auto()  # int64 [1 + 2 * DEPTH]: how many there are; of each, paths above it and paths that go on
    TOKENS = auto()  # int64 [DEPTH, RANKS, FOUND]
    SHARES = auto()  # float32 likewise: their probabilities
    CHOSEN = auto()  # int64 [DEPTH, RANKS]: which candidates of a level go on
    CANDIDATES = auto()  # float64 [RANKS * RANKS], scratch, and what follows
    PATH_SCORES = auto()  # float64 [RANKS]
    NEXT_SCORES = auto()
    PATH_NODES = auto()  # int64 [RANKS]
    NEXT_NODES = auto()
    PLACES = auto()  # int64 [RANKS]: the positions of a level's nodes
    SEEN = auto()  # bytes [SEEN_STEP, SEEN_STEP], 0 at first: what each node sees of all, at most so many
    SEEN_STEP = auto()
    PACKED = auto()  # bytes [RANKS, SEEN_STEP]
    ROOT_STATE = auto()  # of heads: float32 [HIDDEN], in what the first call writes
    HIDDEN = auto()
    STATES = auto()  # float32 [RANKS, HIDDEN], what the calls' STATES are
    FEATURES = auto()  # likewise their FEATURES


class MedusaWord(IntEnum):
    """Of Medusa heads over ROWS states."""

    ROWS = 0
    HEADS = auto()
    HIDDEN = auto()
    VOCAB = auto()
    FOUND = auto()  # tokens that are told of, the likeliest
    FURTHER = auto()  # layers behind the first one
    STATES = auto()  # float32 [ROWS, HIDDEN]
    FIRST = auto()  # the first layer's weights of all heads, in panels: [HEADS * HIDDEN, HIDDEN]
    FIRST_BIAS = auto()  # biases reach to the end of the last panel
    WEIGHTS = auto()  # addresses [FURTHER, HEADS]
    BIASES = auto()
    JUDGES = auto()  # addresses [HEADS], of what gives the logits
    X = auto()  # float32 [HEADS, ROWS, HIDDEN], scratch
    Y = auto()  # likewise
    LOGITS = auto()  # float32 [ROWS, VOCAB], scratch
    SCRATCH = auto()  # see `tiles.scratch`
    IDS = auto()  # int64 [ROWS, HEADS, FOUND]
    SHARES = auto()  # float32 likewise: their probabilities


class MlpWord(IntEnum):
    """Of a level of an MLP speculator over ROWS states."""

    ROWS = 0
    WIDE = auto()  # of the states that are read
    INNER = auto()
    PADDED = auto()  # INNER up to whole vectors; what is behind it in EMBEDDING, NORM, BIAS and NEXT is 0
    VOCAB = auto()
    STATES = auto()  # float32 [ROWS, WIDE]
    IDS = auto()  # int64 [ROWS], the tokens
    PROJ = auto()  # [INNER, WIDE], in panels
    STATE_WEIGHT = auto()  # the bits of a float32; likewise TOKEN_WEIGHT and EPS
    EMBEDDING = auto()  # float32 [VOCAB, PADDED]
    TOKEN_WEIGHT = auto()
    NORM = auto()  # float32 [PADDED], and EPS, for the mean over PADDED
    BIAS = auto()  # float32 [PADDED]
    EPS = auto()
    HEAD = auto()  # [VOCAB, INNER], in panels
    NEXT = auto()  # float32 [ROWS, PADDED], the states of the next level
    LOGITS = auto()  # float32 [ROWS, VOCAB]
    SCRATCH = auto()  # see `tiles.scratch`
