"""Functions and their published versions in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.domain.arn import LATEST
from controller.domain.concurrency import check_reservation
from controller.domain.function import Function, FunctionVersion, version_number
from controller.domain.release import Image, Release
from controller.resources.account.ports import AccountUsage
from controller.resources.functions.ports import FunctionExistsError, Unprepared
from controller.storage.sql.engine import Database
from controller.storage.sql.rows import function_from, function_row, release_from, version_from, version_row
from controller.storage.sql.tables import functions, reservation_locks, versions


class SqlStore:
    """FunctionStore, VersionStore, ReservationStore and UsageStore on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, function: Function, version: FunctionVersion | None = None) -> None:
        """See FunctionStore."""
        try:
            async with self._database.write() as connection:
                await connection.execute(functions.insert().values(function_row(function)))
                await _insert_version(connection, version)
        except IntegrityError as error:
            raise FunctionExistsError(function.arn()) from error

    async def get(self, account: str, region: str, name: str) -> Function | None:
        """See FunctionStore."""
        return await self._one_function(*_owned(account, region), functions.c.name == name)

    async def get_by_uid(self, uid: str) -> Function | None:
        """See FunctionStore."""
        return await self._one_function(functions.c.uid == uid)

    async def replace(
        self, function: Function, expected_revision_id: str, version: FunctionVersion | None = None
    ) -> bool:
        """See FunctionStore."""
        row = function_row(function)
        del row["reserved_concurrency"]
        statement = (
            functions.update()
            .where(functions.c.uid == function.uid, functions.c.revision_id == expected_revision_id)
            .values(row)
        )
        async with self._database.write() as connection:
            if (await connection.execute(statement)).rowcount != 1:
                return False
            await _insert_version(connection, version)
            return True

    async def delete(self, uid: str) -> bool:
        """See FunctionStore."""
        async with self._database.write() as connection:
            await connection.execute(versions.delete().where(versions.c.function_uid == uid))
            result = await connection.execute(functions.delete().where(functions.c.uid == uid))
            return result.rowcount == 1

    async def page(self, account: str, region: str, *, after: str, limit: int) -> Sequence[Function]:
        """See FunctionStore."""
        statement = (
            functions.select()
            .where(*_owned(account, region), functions.c.name > after)
            .order_by(functions.c.name)
            .limit(limit)
        )
        return await self._many_functions(statement)

    async def page_with_versions(
        self, account: str, region: str, *, after: tuple[str, int], limit: int
    ) -> Sequence[tuple[Function, FunctionVersion]]:
        """See FunctionStore."""
        name, number = after
        # Either kind alone fills the page at most, so the first `limit` of both together are the page.
        heads = (
            functions.select()
            .where(*_owned(account, region), functions.c.name >= name)
            .order_by(functions.c.name)
            .limit(limit + 1)
        )
        follows = sa.or_(functions.c.name > name, sa.and_(functions.c.name == name, versions.c.number > number))
        published = (
            sa.select(versions)
            .join(functions, functions.c.uid == versions.c.function_uid)
            .where(*_owned(account, region), follows)
            .order_by(functions.c.name, versions.c.number)
            .limit(limit)
        )
        async with self._database.read() as connection:
            found = [function_from(row) for row in (await connection.execute(heads)).mappings()]
            others = [version_from(row) for row in (await connection.execute(published)).mappings()]
        # A published version within the page has its function within it: the function's own entry comes first.
        by_uid = {function.uid: function for function in found}
        pairs = [(function, function.head) for function in found]
        pairs.extend((by_uid[one.function_uid], one) for one in others if one.function_uid in by_uid)
        pairs.sort(key=_place)
        return [pair for pair in pairs if _place(pair) > after][:limit]

    async def page_by_uid(self, *, after: str, limit: int) -> Sequence[Function]:
        """See FunctionStore."""
        return await self._many_functions(
            functions.select().where(functions.c.uid > after).order_by(functions.c.uid).limit(limit)
        )

    async def unprepared(self) -> Sequence[Unprepared]:
        """See FunctionStore."""
        heads = sa.select(
            functions.c.uid, sa.literal(0).label("number"), functions.c.preparing, functions.c.preparing_since
        ).where(functions.c.preparing.is_not(None))
        published = sa.select(
            versions.c.function_uid, versions.c.number, versions.c.preparing, versions.c.preparing_since
        ).where(versions.c.preparing.is_not(None))
        async with self._database.read() as connection:
            rows = (await connection.execute(heads.union_all(published))).all()
        found = [
            Unprepared(
                function_uid=uid,
                version=str(number) if number else LATEST,
                revision_id=revision_id,
                since=datetime.fromisoformat(since),
            )
            for uid, number, revision_id, since in rows
        ]
        return sorted(found, key=lambda one: one.since)

    async def referenced_blobs(self) -> set[str]:
        """See FunctionStore."""
        return {sha256 for release in await self._releases() for sha256 in release.blobs}

    async def referenced_images(self) -> set[str]:
        """See FunctionStore."""
        images = (release.code for release in await self._releases() if isinstance(release.code, Image))
        return {image.manifest_sha256 for image in images} - {""}

    async def get_version(self, function_uid: str, version: str) -> FunctionVersion | None:
        """See VersionStore."""
        return await self._one_version(versions.select().where(*_numbered(function_uid, version)))

    async def newest_version(self, function_uid: str) -> FunctionVersion | None:
        """See VersionStore."""
        of_function = versions.select().where(versions.c.function_uid == function_uid)
        return await self._one_version(of_function.order_by(versions.c.number.desc()).limit(1))

    async def page_versions(self, function_uid: str, *, after: int, limit: int) -> Sequence[FunctionVersion]:
        """See VersionStore."""
        statement = (
            versions.select()
            .where(versions.c.function_uid == function_uid, versions.c.number > after)
            .order_by(versions.c.number)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [version_from(row) for row in (await connection.execute(statement)).mappings()]

    async def replace_version(self, version: FunctionVersion, expected_revision_id: str) -> bool:
        """See VersionStore."""
        unchanged = versions.c.revision_id == expected_revision_id
        where = (*_numbered(version.function_uid, version.version), unchanged)
        async with self._database.write() as connection:
            result = await connection.execute(versions.update().where(*where).values(version_row(version)))
            return result.rowcount == 1

    async def delete_version(self, function_uid: str, version: str) -> bool:
        """See VersionStore."""
        async with self._database.write() as connection:
            result = await connection.execute(versions.delete().where(*_numbered(function_uid, version)))
            return result.rowcount == 1

    async def reserve(
        self, function_uid: str, wanted: int | None, *, account_limit: int, revision_id: str
    ) -> Function | None:
        """See ReservationStore."""
        function = await self.get_by_uid(function_uid)
        if function is None:
            return None
        await self._ensure_lock(function.account, function.region)
        owned = _owned(function.account, function.region)
        async with self._database.write() as connection:
            await _lock(connection, function.account, function.region)
            if wanted is not None:
                total = sa.select(sa.func.coalesce(sa.func.sum(functions.c.reserved_concurrency), 0))
                others = await connection.execute(total.where(*owned, functions.c.uid != function_uid))
                check_reservation(
                    wanted=wanted, reserved_by_others=int(others.scalar_one()), account_limit=account_limit
                )
            change = functions.update().where(functions.c.uid == function_uid)
            await connection.execute(change.values(reserved_concurrency=wanted, revision_id=revision_id))
            row = (await connection.execute(functions.select().where(functions.c.uid == function_uid))).mappings()
            changed = row.one_or_none()
        return function_from(changed) if changed is not None else None

    async def usage(self, account: str, region: str) -> AccountUsage:
        """See UsageStore."""
        owned = _owned(account, region)
        heads = sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(functions.c.code_bytes), 0),
            sa.func.coalesce(sa.func.sum(functions.c.reserved_concurrency), 0),
        ).where(*owned)
        published = (
            sa.select(sa.func.coalesce(sa.func.sum(versions.c.code_bytes), 0))
            .join(functions, functions.c.uid == versions.c.function_uid)
            .where(*owned)
        )
        async with self._database.read() as connection:
            count, head_bytes, reserved = (await connection.execute(heads)).one()
            version_bytes = (await connection.execute(published)).scalar_one()
        return AccountUsage(
            code_bytes=int(head_bytes) + int(version_bytes),
            function_count=int(count),
            reserved_concurrency=int(reserved),
        )

    async def _releases(self) -> list[Release]:
        statement = sa.union(
            sa.select(functions.c.release),
            sa.select(functions.c.live).where(functions.c.live.is_not(None)),
            sa.select(versions.c.release),
        )
        async with self._database.read() as connection:
            return [release_from(raw) for raw in (await connection.execute(statement)).scalars()]

    async def _one_function(self, *where: sa.ColumnElement[bool]) -> Function | None:
        async with self._database.read() as connection:
            row = (await connection.execute(functions.select().where(*where))).mappings().one_or_none()
        return function_from(row) if row is not None else None

    async def _many_functions(self, statement: sa.Select[tuple[object, ...]]) -> list[Function]:
        async with self._database.read() as connection:
            return [function_from(row) for row in (await connection.execute(statement)).mappings()]

    async def _one_version(self, statement: sa.Select[tuple[object, ...]]) -> FunctionVersion | None:
        async with self._database.read() as connection:
            row = (await connection.execute(statement)).mappings().one_or_none()
        return version_from(row) if row is not None else None

    async def _ensure_lock(self, account: str, region: str) -> None:
        row = {"account": account, "region": region, "changes": 0}
        try:
            async with self._database.write() as connection:
                await connection.execute(reservation_locks.insert().values(row))
        except IntegrityError:
            return


async def _lock(connection: AsyncConnection, account: str, region: str) -> None:
    owned = (reservation_locks.c.account == account, reservation_locks.c.region == region)
    change = reservation_locks.update().where(*owned)
    await connection.execute(change.values(changes=reservation_locks.c.changes + 1))


async def _insert_version(connection: AsyncConnection, version: FunctionVersion | None) -> None:
    if version is not None:
        await connection.execute(versions.insert().values(version_row(version)))


def _owned(account: str, region: str) -> tuple[sa.ColumnElement[bool], ...]:
    return functions.c.account == account, functions.c.region == region


def _numbered(function_uid: str, version: str) -> tuple[sa.ColumnElement[bool], ...]:
    return versions.c.function_uid == function_uid, versions.c.number == int(version)


def _place(pair: tuple[Function, FunctionVersion]) -> tuple[str, int]:
    return pair[0].name, version_number(pair[1])
