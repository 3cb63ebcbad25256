"""Drawings and tables of results."""
