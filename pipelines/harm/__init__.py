"""Harm done to fits on purpose, and whether anything of them is lost."""
