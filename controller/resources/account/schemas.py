"""The wire form of an account's settings."""

from __future__ import annotations

from typing import Any

from contract.packages import MAX_UNZIPPED_BYTES
from controller.domain.validation import ZIPPED_MAX_BYTES
from controller.resources.account.service import AccountSettings

#: Lambda's default of 75 GB; told, and not enforced: the disk is the operator's.
TOTAL_CODE_BYTES = 80_530_636_800


def settings_of(account: AccountSettings) -> dict[str, Any]:
    """Return the GetAccountSettingsResponse."""
    return {
        "AccountLimit": {
            "TotalCodeSize": TOTAL_CODE_BYTES,
            "CodeSizeUnzipped": MAX_UNZIPPED_BYTES,
            "CodeSizeZipped": ZIPPED_MAX_BYTES,
            "ConcurrentExecutions": account.concurrency,
            "UnreservedConcurrentExecutions": account.unreserved_concurrency,
        },
        "AccountUsage": {
            "TotalCodeSize": account.usage.code_bytes,
            "FunctionCount": account.usage.function_count,
        },
    }
