"""The tracing header of invocations that come without one."""

from __future__ import annotations

import secrets


def new_trace_header(now_s: float) -> str:
    """Return an unsampled trace, of its own, in the form of `X-Amzn-Trace-Id`; `now_s` is seconds since 1970."""
    return f"Root=1-{int(now_s):08x}-{secrets.token_hex(12)};Parent={secrets.token_hex(8)};Sampled=0"
