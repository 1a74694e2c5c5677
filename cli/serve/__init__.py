"""`lambdock serve`: Redis, controllers, the background process and workers as one process tree."""
