"""Monocular 3D boxes as a task plugin of ctnet, with KITTI's data format and a KITTI evaluation."""
