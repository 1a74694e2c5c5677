"""Tells whose request this is: account and region, from how it was signed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.requests import Request

#: Where the side door says in the scope's `state` whose function calls. What a client sends never gets there.
CALLING_FUNCTION = "calling_function"

_CREDENTIAL = re.compile(r"Credential=([^,\s]+)")
_ACCOUNT = re.compile(r"[0-9]{12}")
#: As long as a region may be that is stored; the longest known ones have 14 characters.
_REGION = re.compile(r"(?=.{1,32}\Z)[a-z]{2,5}(-[a-z]+)+-[0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose resources a request means; nothing crosses from one caller's to another's."""

    account: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerReader:
    """Reads callers. Signatures are not verified: whoever reaches the API may name any account."""

    default_account: str
    default_region: str

    def read(self, request: Request) -> Caller:
        """Return the caller of a SigV4-signed, presigned or unsigned request.

        An access key of exactly 12 digits is the account's id. What can't be read counts as not given. A function's
        account is its own, whatever it signs with.
        """
        scope = self._scope(request)
        function: Caller | None = request.scope.get("state", {}).get(CALLING_FUNCTION)
        if function is not None:
            region = scope[1] if scope is not None and _REGION.fullmatch(scope[1]) else function.region
            return Caller(account=function.account, region=region)
        if scope is None:
            return Caller(account=self.default_account, region=self.default_region)
        access_key, region = scope
        return Caller(
            account=access_key if _ACCOUNT.fullmatch(access_key) else self.default_account,
            region=region if _REGION.fullmatch(region) else self.default_region,
        )

    def _scope(self, request: Request) -> tuple[str, str] | None:
        match = _CREDENTIAL.search(request.headers.get("authorization", ""))
        credential = unquote(match.group(1)) if match else request.query_params.get("X-Amz-Credential", "")
        # key/date/region/service/aws4_request; the key itself has no slash.
        parts = credential.split("/")
        return (parts[0], parts[2]) if len(parts) == 5 else None
