"""The parameters of the methods."""

from __future__ import annotations

from specterm.catalogue.parameter import Parameter

NUM_DRAFT_TOKENS = Parameter(
    "num_draft_tokens", "int", 4, "Draft tokens a round (gamma).", minimum=1, maximum=64, label="gamma"
)
ADAPTIVE = Parameter(
    "adaptive",
    "bool",
    False,
    "Choose each round's draft length, up to the given one, from acceptance and measured costs; decode without drafts "
    "while they do not pay.",
)
DRAFT_TEMPERATURE = Parameter(
    "draft_temperature",
    "float",
    None,
    "The drafter's own temperature; 0 drafts greedily. The output's law does not change, only how much is accepted.",
    minimum=0.0,
    maximum=100.0,
    optional=True,
    none_means="target's",
    label="draft temp",
)

DRAFT_CONFIDENCE = Parameter(
    "draft_confidence",
    "float",
    0.05,
    "A draft ends early where the draft model's own probability of the whole of it falls below this; 0 for never. In "
    "effect where drafts are greedy: sampled ones have their full length always, as the output would be biased.",
    minimum=0.0,
    maximum=1.0,
    label="confidence",
)

NGRAM_MAX = Parameter(
    "ngram_max", "int", 4, "Longest context that is looked up, in tokens.", minimum=1, maximum=16, label="n-gram max"
)
NGRAM_MIN = Parameter(
    "ngram_min",
    "int",
    1,
    "Shortest context that is looked up, in tokens.",
    minimum=1,
    maximum=16,
    label="n-gram min",
    at_most=NGRAM_MAX.name,
)
TREE_WIDTH = Parameter("tree_width", "int", 1, "Branches of the draft; 1 is a chain.", minimum=1, maximum=8)
BEAM_WIDTH = Parameter("tree_width", "int", 3, "Paths that each drafter follows at a time.", minimum=1, maximum=16)
TREE_DEPTH = Parameter("tree_depth", "int", 4, "Depth of the draft tree, in tokens.", minimum=1, maximum=32)
TREE_NODES = Parameter(
    "tree_nodes",
    "int",
    None,
    "Nodes of the draft tree that the target verifies, the likeliest first; left out, a number is chosen each round "
    "from measured costs.",
    minimum=1,
    maximum=256,
    optional=True,
    none_means="what pays",
)
TREE_CHILDREN = Parameter(
    "tree_children",
    "text",
    "likeliest",
    "How the tokens of the tree are chosen: likeliest, the best of each drafter; sampled, drawn from its distribution "
    "without replacement into a tree of fixed shape. Greedy decoding takes the likeliest always; sampled trees have "
    "width x depth nodes where no number is given.",
    choices=("likeliest", "sampled"),
    label="children",
)
DRAFT_MEMORY = Parameter(
    "draft_memory",
    "text",
    "prompt",
    "What drafts are looked up in: none, the row's own output; prompt, also its prompt; session, also the prompts and "
    "outputs of all rows since the models were loaded.",
    choices=("none", "prompt", "session"),
    label="memory",
)
HEAD_TREE = Parameter(
    "head_tree",
    "text",
    "dynamic",
    "How candidates are chosen: dynamic, by their probabilities in each round; static, by the same ranks always.",
    choices=("dynamic", "static"),
    label="head tree",
)
EXIT_LAYER = Parameter(
    "exit_layer",
    "int",
    None,
    "How many of the target's layers draft, from the first; fewer than it has.",
    minimum=1,
    maximum=1024,
    optional=True,
    none_means="half of them",
)
MEDUSA_CHOICES = Parameter(
    "medusa_choices",
    "text",
    None,
    "A JSON file with the nodes of the static tree, each a list of ranks from 0 to 9: [[0], [0, 0], [1], ...]; left "
    "out, a tree that suits most heads.",
    optional=True,
    none_means="usual tree",
    label="choices file",
    needs=(HEAD_TREE.name, "static"),
)
SUFFIX_FACTOR = Parameter(
    "suffix_factor", "float", 1.0, "Draft tokens for each matched token, at most.", minimum=0.1, maximum=64.0
)
SUFFIX_MIN_PROBABILITY = Parameter(
    "suffix_min_probability",
    "float",
    0.1,
    "A branch ends where its estimated probability falls below this.",
    minimum=0.0,
    maximum=1.0,
    label="suffix min p",
)
FILLER_TOP_K = Parameter(
    "filler_top_k",
    "int",
    3,
    "How many of the target's likeliest tokens are learned at every verified position; 0 learns from text alone.",
    minimum=0,
    maximum=64,
    label="filler top-k",
)
NGRAM_CAPACITY = Parameter(
    "ngram_capacity",
    "int",
    1_000_000,
    "Pairs of a context and a follower that the store holds; the longest unused contexts go first.",
    minimum=1,
    maximum=100_000_000,
    label="store size",
)
NGRAM_STORE = Parameter(
    "ngram_store",
    "text",
    None,
    "A file to read the store from, if it exists, and to write it to at the end; needs --draft-memory session.",
    optional=True,
    none_means="no file",
    label="store file",
    needs=(DRAFT_MEMORY.name, "session"),
)
