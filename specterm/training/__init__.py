"""Recipes that train drafting heads for a target; nothing of it is needed to decode."""
