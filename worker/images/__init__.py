"""Makes the images that functions run in, ahead of time or when the first function needs one."""
