"""A detector, a results file, stored maps or rendered ground truth over a data set, into an evaluator."""
