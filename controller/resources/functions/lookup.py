"""Finds the function and the version that a caller named, or refuses as Lambda does."""

from __future__ import annotations

from dataclasses import dataclass

from controller.domain import errors
from controller.domain.arn import LATEST, FunctionIdentifier
from controller.domain.function import Function, FunctionVersion
from controller.resources.functions.ports import FunctionStore
from controller.resources.versions.ports import VersionStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A function, and the version of it that is meant."""

    function: Function
    version: FunctionVersion
    #: True when the caller named a qualifier, which then is part of the ARN in the answer.
    is_qualified: bool

    @property
    def arn(self) -> str:
        """The ARN as the caller meant it."""
        return self.function.arn(self.version.version if self.is_qualified else None)


class FunctionLookup:
    """Reads by name and qualifier."""

    def __init__(self, functions: FunctionStore, versions: VersionStore) -> None:
        self._functions = functions
        self._versions = versions

    async def find(self, account: str, region: str, name: FunctionIdentifier) -> Found:
        """Return what `name` names now. Raises ResourceNotFoundError, naming the ARN with its qualifier."""
        function = await self._functions.get(account, region, name.name)
        if function is None:
            raise errors.function_not_found(name.arn(account, region))
        if name.qualifier in (None, LATEST):
            return Found(function=function, version=function.head, is_qualified=name.qualifier is not None)
        version = None
        if name.qualifier is not None and is_version_number(name.qualifier):
            version = await self._versions.get_version(function.uid, name.qualifier)
        if version is None:
            raise errors.function_not_found(name.arn(account, region))
        return Found(function=function, version=version, is_qualified=True)


def is_version_number(qualifier: str) -> bool:
    """Tell whether this is a number as versions have: decimal, from 1, no leading zero, and storable."""
    return qualifier.isascii() and qualifier.isdigit() and qualifier[0] != "0" and len(qualifier) <= 9
