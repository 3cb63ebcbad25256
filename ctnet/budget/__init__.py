"""A network for a time per image: building blocks measured on this machine, predictions, a choice."""
