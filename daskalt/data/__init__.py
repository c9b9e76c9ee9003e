"""Any data as aligned blocks of rows: sources, tables, copies in Zarr, ingestion, shuffling."""
