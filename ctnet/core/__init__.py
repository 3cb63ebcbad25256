"""The contract: records, geometry, targets, heads, tasks, evaluators, recipes and options."""
