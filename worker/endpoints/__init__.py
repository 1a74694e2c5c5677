"""What functions reach through their worker: the Lambda API, and the endpoints that the operator names."""
