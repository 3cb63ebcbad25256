"""The built-in task. It is discovered through its entry point, like any other task."""
