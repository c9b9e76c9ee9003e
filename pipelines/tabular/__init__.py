"""The parts of the comparison that `python -m pipelines.compare_tables` runs."""
