"""Which URL means which database."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from controller.settings import ControllerSettings
from controller.storage.sql.engine import create_engine, driver_url


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ("postgresql://user:p%40ss@db:5432/lambdock", "postgresql+asyncpg://user:p%40ss@db:5432/lambdock"),
        ("postgres://db/lambdock", "postgresql+asyncpg://db/lambdock"),
        ("postgresql+asyncpg://db/lambdock", "postgresql+asyncpg://db/lambdock"),
        ("postgresql://u@/lambdock?host=/run/pg", "postgresql+asyncpg://u@/lambdock?host=%2Frun%2Fpg"),
        ("postgresql://db/lambdock?sslmode=require", "postgresql+asyncpg://db/lambdock?ssl=require"),
        ("sqlite:////var/lib/x.db", "sqlite+aiosqlite:////var/lib/x.db"),
    ],
)
def test_urls_as_operators_write_them_get_the_driver_that_is_used(written: str, used: str) -> None:
    assert driver_url(written).render_as_string(hide_password=False) == used


@pytest.mark.parametrize("url", ["mysql://u:secret@db/x", "postgresql+psycopg2://u:secret@db/x", "u:secret@db", "x"])
def test_other_databases_are_refused_at_the_start_without_telling_the_password(url: str) -> None:
    with pytest.raises(ValidationError, match="LAMBDOCK_DATABASE_URL") as refused:
        ControllerSettings(database_url=url)

    assert "secret" not in str(refused.value)


async def test_an_error_that_is_logged_does_not_hold_what_was_to_be_stored(tmp_path: Path) -> None:
    """The environment of a function is a parameter of its statement."""
    engine = create_engine(f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(sa.exc.OperationalError, match="no such table") as failed:
        async with engine.begin() as connection:
            await connection.execute(sa.text("INSERT INTO nowhere VALUES (:release)"), {"release": "PASSWORD"})
    await engine.dispose()

    assert "PASSWORD" not in str(failed.value)
