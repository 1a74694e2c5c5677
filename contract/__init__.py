"""What two separately deployed processes, a controller and a worker, must agree on."""
