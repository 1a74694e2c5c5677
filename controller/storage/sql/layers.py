"""Layers and their versions in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from controller.domain.layer import LayerVersion
from controller.domain.release import Package
from controller.resources.layers.ports import Compatibility
from controller.storage.sql.engine import Database
from controller.storage.sql.tables import layer_versions, layers


class SqlLayerStore:
    """A LayerStore on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, version: LayerVersion) -> LayerVersion:
        """See LayerStore."""
        await self._ensure_layer(version)
        owned = _owned(layers, version.account, version.region, version.name)
        async with self._database.write() as connection:
            # Whoever adds a version to this layer at the same time waits here until this transaction has ended.
            await connection.execute(layers.update().where(*owned).values(last_number=layers.c.last_number + 1))
            number = (await connection.execute(sa.select(layers.c.last_number).where(*owned))).scalar_one()
            stored = replace(version, number=number)
            await connection.execute(layer_versions.insert().values(_row(stored)))
        return stored

    async def get(self, account: str, region: str, name: str, number: int) -> LayerVersion | None:
        """See LayerStore."""
        where = (*_owned(layer_versions, account, region, name), layer_versions.c.number == number)
        found = await self._many(layer_versions.select().where(*where))
        return found[0] if found else None

    async def page(
        self, account: str, region: str, *, compatible: Compatibility, after: str, limit: int
    ) -> Sequence[LayerVersion]:
        """See LayerStore."""
        newest = (
            sa.select(layer_versions.c.name, sa.func.max(layer_versions.c.number).label("number"))
            .where(*_owned(layer_versions, account, region), layer_versions.c.name > after, *_matching(compatible))
            .group_by(layer_versions.c.name)
            .order_by(layer_versions.c.name)
            .limit(limit)
            .subquery()
        )
        is_newest = sa.and_(layer_versions.c.name == newest.c.name, layer_versions.c.number == newest.c.number)
        return await self._many(
            sa.select(layer_versions)
            .join(newest, is_newest)
            .where(*_owned(layer_versions, account, region))
            .order_by(layer_versions.c.name)
        )

    async def page_versions(
        self, account: str, region: str, name: str, *, compatible: Compatibility, before: int, limit: int
    ) -> Sequence[LayerVersion]:
        """See LayerStore."""
        owned = _owned(layer_versions, account, region, name)
        return await self._many(
            layer_versions.select()
            .where(*owned, layer_versions.c.number < before, *_matching(compatible))
            .order_by(layer_versions.c.number.desc())
            .limit(limit)
        )

    async def delete(self, account: str, region: str, name: str, number: int) -> bool:
        """See LayerStore."""
        where = (*_owned(layer_versions, account, region, name), layer_versions.c.number == number)
        async with self._database.write() as connection:
            return (await connection.execute(layer_versions.delete().where(*where))).rowcount == 1

    async def stored_bytes(self, account: str, region: str) -> int:
        """See LayerStore."""
        total = sa.select(sa.func.coalesce(sa.func.sum(layer_versions.c.code_bytes), 0))
        async with self._database.read() as connection:
            found = await connection.execute(total.where(*_owned(layer_versions, account, region)))
        return int(found.scalar_one())

    async def referenced_blobs(self) -> set[str]:
        """See LayerStore."""
        async with self._database.read() as connection:
            return set((await connection.execute(sa.select(layer_versions.c.code_sha256).distinct())).scalars())

    async def _many(self, statement: sa.Select[Any]) -> list[LayerVersion]:
        async with self._database.read() as connection:
            return [_version(row) for row in (await connection.execute(statement)).mappings()]

    async def _ensure_layer(self, version: LayerVersion) -> None:
        """Make the layer's row, in a transaction of its own: PostgreSQL ends one in which an insert has failed."""
        owned = _owned(layers, version.account, version.region, version.name)
        async with self._database.read() as connection:
            if (await connection.execute(sa.select(layers.c.last_number).where(*owned))).first() is not None:
                return
        row = {"account": version.account, "region": version.region, "name": version.name, "last_number": 0}
        try:
            async with self._database.write() as connection:
                await connection.execute(layers.insert().values(row))
        except IntegrityError:
            return


def _owned(table: sa.Table, account: str, region: str, name: str | None = None) -> tuple[sa.ColumnElement[bool], ...]:
    owned = (table.c.account == account, table.c.region == region)
    return owned if name is None else (*owned, table.c.name == name)


def _matching(wanted: Compatibility) -> list[sa.ColumnElement[bool]]:
    asked = (
        (layer_versions.c.compatible_runtimes, wanted.runtime),
        (layer_versions.c.compatible_architectures, wanted.architecture),
    )
    return [column.contains(f'"{value}"', autoescape=True) for column, value in asked if value is not None]


def _row(version: LayerVersion) -> dict[str, Any]:
    return {
        "account": version.account,
        "region": version.region,
        "name": version.name,
        "number": version.number,
        "created_at": version.created_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "description": version.description,
        "license_info": version.license_info,
        "compatible_runtimes": orjson.dumps(version.compatible_runtimes).decode(),
        "compatible_architectures": orjson.dumps(version.compatible_architectures).decode(),
        "code_sha256": version.package.sha256,
        "code_bytes": version.package.size_bytes,
        "unzipped_bytes": version.package.unzipped_bytes,
    }


def _version(row: Mapping[Any, Any]) -> LayerVersion:
    return LayerVersion(
        account=row["account"],
        region=row["region"],
        name=row["name"],
        number=row["number"],
        created_at=datetime.fromisoformat(row["created_at"]),
        description=row["description"],
        license_info=row["license_info"],
        compatible_runtimes=tuple(orjson.loads(row["compatible_runtimes"])),
        compatible_architectures=tuple(orjson.loads(row["compatible_architectures"])),
        package=Package(sha256=row["code_sha256"], size_bytes=row["code_bytes"], unzipped_bytes=row["unzipped_bytes"]),
    )
