"""The edge service: pictures come in by HTTP, compressed features go out to the cloud, results come back."""
