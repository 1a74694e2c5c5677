"""Names sort by their code points, as in Python and in SQLite, whatever language a PostgreSQL database was made for."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

NAMES = (("functions", 64), ("layers", 140), ("layer_versions", 140), ("images", 128))


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, length in NAMES:
        op.execute(f'ALTER TABLE {table} ALTER COLUMN name TYPE varchar({length}) COLLATE "C"')
