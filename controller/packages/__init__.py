"""Deployment packages on their way in: from the request itself or from a bucket, checked, then kept as blobs."""
