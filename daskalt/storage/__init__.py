"""Files, folders and Zarr stores that are complete or not there, and variables of rows in them."""
