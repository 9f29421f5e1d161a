"""Everything that knows model files and transformers."""
