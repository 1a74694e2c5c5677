"""Functions, their published versions, and the locks of reservations."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _version_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("release", sa.Text, nullable=False),
        sa.Column("code_sha256", sa.String(64), nullable=False),
        sa.Column("code_bytes", sa.BigInteger, nullable=False),
        sa.Column("revision_id", sa.String(36), nullable=False),
        sa.Column("modified_at", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("state_reason", sa.Text),
        sa.Column("update_status", sa.String(16)),
        sa.Column("update_reason", sa.Text),
        sa.Column("preparing", sa.String(36)),
        sa.Column("preparing_since", sa.String(32)),
        sa.Column("is_sealed", sa.Boolean, nullable=False),
        sa.Column("origin", sa.String(64), nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "functions",
        sa.Column("uid", sa.String(32), primary_key=True),
        sa.Column("account", sa.String(12), nullable=False),
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("reserved_concurrency", sa.Integer),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("last_version", sa.Integer, nullable=False),
        sa.Column("live", sa.Text),
        sa.Column("live_sha256", sa.String(64)),
        *_version_columns(),
        sa.UniqueConstraint("account", "region", "name", name="functions_name"),
    )
    op.create_index("functions_preparing", "functions", ["preparing"])
    op.create_table(
        "function_versions",
        sa.Column("function_uid", sa.String(32), sa.ForeignKey("functions.uid", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        *_version_columns(),
    )
    op.create_index("function_versions_preparing", "function_versions", ["preparing"])
    op.create_table(
        "reservation_locks",
        sa.Column("account", sa.String(12), primary_key=True),
        sa.Column("region", sa.String(32), primary_key=True),
        sa.Column("changes", sa.BigInteger, nullable=False),
    )
