"""The parts of the benchmark that `python -m pipelines.benchmark_mnist` runs."""
