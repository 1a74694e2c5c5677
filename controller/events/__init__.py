"""Asynchronous events: accepted durably, dispatched when there is room, run at least once."""
