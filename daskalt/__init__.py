"""Neural networks by alternating minimisation on data larger than memory."""

__version__ = "0.1.0"
