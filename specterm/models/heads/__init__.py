"""Heads that draft from the target's hidden states: their modules, and the readers of their published checkpoints."""
