"""Configured runs and the command: what they read, do and leave."""
