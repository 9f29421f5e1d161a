"""One run in the terminal without a screen: the text as it comes, then its figures."""
