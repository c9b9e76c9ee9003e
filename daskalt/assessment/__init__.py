"""Confusions, residuals and their displays."""
