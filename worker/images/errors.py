"""Why there is no image."""


class RuntimeUnavailableError(Exception):
    """Functions of this runtime can't run on this engine now; `reason` tells users and operators why and what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BuildFailedError(Exception):
    """The engine refused or failed to build; `str()` has the last lines of its output."""


class BaseUnavailableError(Exception):
    """A base image can't be had now; `str()` says why."""


class ImageUnavailableError(Exception):
    """A function's own image can't be had or used: AWS's StateReasonCode, and a reason for its user."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
