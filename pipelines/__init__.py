"""Whole studies, runnable from the repository root with `python -m pipelines.NAME`."""
