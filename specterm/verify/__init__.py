"""Proving, or refuting, that speculation leaves the output what it was: on the loaded models, by running them."""
