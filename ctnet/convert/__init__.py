"""Conversion of other annotation formats to and from a COCO data directory."""
