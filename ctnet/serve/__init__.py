"""A detector as an HTTP service: requests in, detections out, in batches."""
