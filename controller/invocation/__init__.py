"""The path of an invocation through the controller: payload, version, dispatch, reply."""
