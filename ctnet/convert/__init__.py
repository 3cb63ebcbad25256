"""Other annotation formats to and from a COCO data directory: Pascal VOC and YOLO."""
