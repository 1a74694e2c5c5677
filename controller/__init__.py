"""The control plane: Lambda's API, the stored functions, admission and placement."""
