"""Tasks on any Dask scheduler, statistics that add, progress and signals."""
