"""Images that accounts have pushed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "images",
        sa.Column("account", sa.String(12), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("manifest_sha256", sa.String(64), primary_key=True),
        sa.Column("config_sha256", sa.String(64), nullable=False),
        sa.Column("architecture", sa.String(16), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("pushed_at", sa.String(32), nullable=False),
    )
