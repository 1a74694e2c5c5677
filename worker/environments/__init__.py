"""Execution environments: initialised instances of one function version, each serving one invocation at a time."""
