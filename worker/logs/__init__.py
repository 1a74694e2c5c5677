"""What functions print: from the pipe of each sandbox to tails, and to bounded files on the worker's disk."""
