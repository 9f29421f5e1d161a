"""Reports of a batch: one document, as JSON, CSV, Markdown and HTML."""
