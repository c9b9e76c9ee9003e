"""CSV, Parquet and NumPy files to Zarr: columns of any kind to features, by a recipe."""
