"""Evaluating a detector, a results file, stored maps or rendered ground truth on a data set."""
