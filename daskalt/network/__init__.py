"""Layers with named sources, what they are trained on, and how they are scored."""
