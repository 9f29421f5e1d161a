"""The mathematics of speculative decoding: torch, but no model library and no screen."""
