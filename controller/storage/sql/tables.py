"""The tables as the newest migration leaves them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()

#: Instants are ISO 8601 UTC text of one width, which sorts like time in every database.
_INSTANT = sa.String(32)


def _version_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("release", sa.Text, nullable=False),
        sa.Column("code_sha256", sa.String(64), nullable=False),
        sa.Column("code_bytes", sa.BigInteger, nullable=False),
        sa.Column("revision_id", sa.String(36), nullable=False),
        sa.Column("modified_at", _INSTANT, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("state_reason", sa.Text),
        sa.Column("update_status", sa.String(16)),
        sa.Column("update_reason", sa.Text),
        sa.Column("preparing", sa.String(36)),
        sa.Column("preparing_since", _INSTANT),
        sa.Column("is_sealed", sa.Boolean, nullable=False),
        sa.Column("origin", sa.String(64), nullable=False),
    ]


functions = sa.Table(
    "functions",
    metadata,
    sa.Column("uid", sa.String(32), primary_key=True),
    sa.Column("account", sa.String(12), nullable=False),
    sa.Column("region", sa.String(32), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("created_at", _INSTANT, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("reserved_concurrency", sa.Integer),
    sa.Column("tags", sa.Text, nullable=False),
    sa.Column("last_version", sa.Integer, nullable=False),
    sa.Column("live", sa.Text),
    sa.Column("live_sha256", sa.String(64)),
    *_version_columns(),
    # Also the index of ListFunctions' pages.
    sa.UniqueConstraint("account", "region", "name", name="functions_name"),
    sa.Index("functions_preparing", "preparing"),
)

versions = sa.Table(
    "function_versions",
    metadata,
    sa.Column("function_uid", sa.String(32), sa.ForeignKey("functions.uid", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    *_version_columns(),
    sa.Index("function_versions_preparing", "preparing"),
)

#: One row per account and region: whoever changes reservations updates it first, which serialises them.
reservation_locks = sa.Table(
    "reservation_locks",
    metadata,
    sa.Column("account", sa.String(12), primary_key=True),
    sa.Column("region", sa.String(32), primary_key=True),
    sa.Column("changes", sa.BigInteger, nullable=False),
)

#: Images that accounts have pushed; what each consists of says its manifest, a blob.
images = sa.Table(
    "images",
    metadata,
    sa.Column("account", sa.String(12), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("manifest_sha256", sa.String(64), primary_key=True),
    sa.Column("config_sha256", sa.String(64), nullable=False),
    sa.Column("architecture", sa.String(16), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("pushed_at", _INSTANT, nullable=False),
)

#: One row per layer that ever had a version. It stays when they are all deleted, so that no number comes back.
layers = sa.Table(
    "layers",
    metadata,
    sa.Column("account", sa.String(12), primary_key=True),
    sa.Column("region", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(140), primary_key=True),
    sa.Column("last_number", sa.Integer, nullable=False),
)

layer_versions = sa.Table(
    "layer_versions",
    metadata,
    # Also the index of ListLayers' and ListLayerVersions' pages.
    sa.Column("account", sa.String(12), primary_key=True),
    sa.Column("region", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(140), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("created_at", _INSTANT, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("license_info", sa.Text, nullable=False),
    # JSON lists of strings, without spaces: filters look for an item with its quotes.
    sa.Column("compatible_runtimes", sa.Text, nullable=False),
    sa.Column("compatible_architectures", sa.Text, nullable=False),
    sa.Column("code_sha256", sa.String(64), nullable=False),
    sa.Column("code_bytes", sa.BigInteger, nullable=False),
    sa.Column("unzipped_bytes", sa.BigInteger, nullable=False),
)
