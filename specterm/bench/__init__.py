"""The benchmark: prompt sources, interleaved trials, comparison with naive, statistics."""
