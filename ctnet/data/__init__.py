"""Data sets, geometry, augmentation, batches, synthetic scenes."""
