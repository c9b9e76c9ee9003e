"""A fit: tasks, graphs, drivers, checkpoints, and what watches over it."""
