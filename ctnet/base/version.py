"""The one place that states ctnet's version; the distribution's metadata is built from it."""

__version__ = "0.1.0"
