"""Operators that are independent of detection: deformable convolution, Winograd, boxes, NMS."""

from ctnet.ops.deform_conv import DeformConv, deform_conv2d

__all__ = ["DeformConv", "deform_conv2d"]
