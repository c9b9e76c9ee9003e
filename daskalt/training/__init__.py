"""The run of a fit: tasks, graphs, drivers, checkpoints, history and stopping."""
