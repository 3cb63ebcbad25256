"""Exported detectors: one file that stock runtimes run, without ctnet and its plugins."""
