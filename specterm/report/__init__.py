"""Reports of a batch: one document, as JSON and as Markdown."""
