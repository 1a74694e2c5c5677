"""Records of pushed images in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.images.ports import PushedImage
from controller.storage.sql.engine import Database
from controller.storage.sql.rows import Row
from controller.storage.sql.tables import images


class SqlImageStore:
    """The ImageStore on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, image: PushedImage) -> None:
        """See ImageStore."""
        try:
            async with self._database.write() as connection:
                if not await _touch(connection, image):
                    await connection.execute(images.insert().values(_row(image)))
        except IntegrityError:
            # Somebody has pushed the same in between.
            async with self._database.write() as connection:
                await _touch(connection, image)

    async def find(self, account: str, name: str, manifest_sha256: str) -> PushedImage | None:
        """See ImageStore."""
        async with self._database.read() as connection:
            rows = await connection.execute(images.select().where(*_key(account, name, manifest_sha256)))
            row = rows.mappings().one_or_none()
        return _image(row) if row is not None else None

    async def page(self, account: str, *, after: tuple[str, str], limit: int) -> Sequence[PushedImage]:
        """See ImageStore."""
        name, digest = after
        follows = sa.or_(images.c.name > name, sa.and_(images.c.name == name, images.c.manifest_sha256 > digest))
        statement = (
            images.select()
            .where(images.c.account == account, follows)
            .order_by(images.c.name, images.c.manifest_sha256)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [_image(row) for row in (await connection.execute(statement)).mappings()]

    async def remove(self, account: str, name: str, manifest_sha256: str) -> bool:
        """See ImageStore."""
        async with self._database.write() as connection:
            result = await connection.execute(images.delete().where(*_key(account, name, manifest_sha256)))
            return result.rowcount == 1

    async def manifests(self) -> set[str]:
        """See ImageStore."""
        async with self._database.read() as connection:
            rows = await connection.execute(sa.select(images.c.manifest_sha256).distinct())
            return set(rows.scalars())


async def _touch(connection: AsyncConnection, image: PushedImage) -> bool:
    change = images.update().where(*_key(image.account, image.name, image.manifest_sha256))
    return (await connection.execute(change.values(pushed_at=_instant(image.pushed_at)))).rowcount == 1


def _key(account: str, name: str, manifest_sha256: str) -> tuple[sa.ColumnElement[bool], ...]:
    return images.c.account == account, images.c.name == name, images.c.manifest_sha256 == manifest_sha256


def _row(image: PushedImage) -> dict[str, object]:
    return {
        "account": image.account,
        "name": image.name,
        "manifest_sha256": image.manifest_sha256,
        "config_sha256": image.config_sha256,
        "architecture": image.architecture,
        "size_bytes": image.size_bytes,
        "pushed_at": _instant(image.pushed_at),
    }


def _image(row: Row) -> PushedImage:
    return PushedImage(
        account=row["account"],
        name=row["name"],
        manifest_sha256=row["manifest_sha256"],
        config_sha256=row["config_sha256"],
        architecture=row["architecture"],
        size_bytes=row["size_bytes"],
        pushed_at=datetime.fromisoformat(row["pushed_at"]),
    )


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
