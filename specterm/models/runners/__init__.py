"""Implementations of the Runner port."""
