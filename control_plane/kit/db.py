"""PostgreSQL through SQLAlchemy on asyncpg: the only engine kind of the server.

One request or tick is one transaction; the edge commits (`Database.transaction`). Raw statements of the kit's own
tables go through `rows` and `execute`, so that nobody else needs SQLAlchemy for them.
"""

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, ClassVar
from uuid import uuid4

import asyncpg
from sqlalchemy import DateTime, MetaData, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import URL, RowMapping, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from control_plane.kit.errors import Invalid, Unavailable

Session = AsyncSession
Row = RowMapping

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Every table of every slice; instants are aware, mappings are JSONB."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        dict[str, Any] | None: JSONB,
        list[Any]: JSONB,
        list[Any] | None: JSONB,
        list[str]: JSONB,
    }


def make_engine(url: str, connect_args: Mapping[str, Any] | None = None, **options: Any) -> AsyncEngine:
    """Return an engine for a PostgreSQL URL as libpq takes it, whichever scheme it was written with.

    SQLAlchemy hands a URL's query to asyncpg as arguments, of which it knows few; as a query of a URL (`dsn`) it knows
    libpq's own: sslmode, sslrootcert, target_session_attrs, application_name and the others.

    Raises:
        Invalid: it is no such URL.
    """
    parsed = _parsed(url).set(drivername="postgresql+asyncpg")
    reached_by = {name: parsed.query[name] for name in ("host", "port") if name in parsed.query}
    said = parsed.difference_update_query(reached_by).query
    told = {"dsn": URL.create("postgresql", query=said).render_as_string()} if said else {}
    return create_async_engine(parsed.set(query=reached_by), connect_args=told | dict(connect_args or {}), **options)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername.partition("+")[0] not in ("postgresql", "postgres"):
        raise Invalid("a database URL is written as postgresql://USER:PASSWORD@HOST:PORT/DATABASE; this one is not")
    return parsed


async def must_answer(url: str) -> None:
    """Connect once.

    Raises:
        Invalid: it is no URL of a PostgreSQL.
        Unavailable: none answers there, or it does not let us in; the sentence says where and why.
    """
    engine = make_engine(url)
    try:
        async with engine.connect():
            pass
    except (OSError, OverflowError, TimeoutError, *DATABASE_ERRORS) as error:
        why = getattr(error, "orig", None) or error
        raise Unavailable(f"PostgreSQL at {engine.url.render_as_string()} does not let us in: {why}") from error
    finally:
        await engine.dispose()


def driver_url(url: str) -> str:
    """Return the URL as asyncpg itself takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def libpq_of(url: str) -> tuple[str, dict[str, str]]:
    """Return the URL as PostgreSQL's own programs take it, without its password, and the environment with it."""
    parsed = make_url(url).set(drivername="postgresql")
    secret = {"PGPASSWORD": str(parsed.password)} if parsed.password else {}
    return parsed._replace(password=None).render_as_string(hide_password=False), secret


_NOTHING_KEPT: dict[str, Any] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: f"__fleetloop_{uuid4().hex}",
}


class Database:
    """An engine and its sessions.

    `pooled` says that the URL leads to a pooler which may give every transaction another connection: no statement is
    kept prepared, none relies on what an earlier one left behind, and names of statements are never used twice.
    """

    def __init__(self, url: str, *, pool_size: int = 10, pooled: bool = False) -> None:
        self._pooled = pooled
        self.engine = make_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
            pool_timeout=10,
            connect_args=_NOTHING_KEPT if pooled else {},
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.connections_most = 2 * pool_size

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        async with self._sessions() as session, session.begin():
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Session]:
        """Give a session whose transaction may only read."""
        async with self._sessions() as session:
            await session.connection(execution_options={"postgresql_readonly": True})
            yield session

    async def fetch(self, statement: str, *values: Any) -> Sequence[Mapping[str, Any]]:
        """Run one statement ($1, $2 ...) as a transaction of its own, in one round trip past SQLAlchemy."""
        async with self.engine.connect() as connection:
            driver = await _driver(connection)
            if self._pooled:  # the statement and its values travel apart, and would meet other connections
                async with driver.transaction():
                    return list(await driver.fetch(statement, *values))
            found: Sequence[Mapping[str, Any]] = await driver.fetch(statement, *values)
            return found

    @property
    def connections_in_use(self) -> int:
        return int(self.engine.pool.checkedout())  # type: ignore[attr-defined] # the pool that is made above has it

    async def ready(self) -> bool:
        try:
            async with self.engine.connect() as connection:
                await connection.execute(text("select 1"))
        except (OSError, DBAPIError, TimeoutError):
            return False
        return True

    async def close(self) -> None:
        await self.engine.dispose()


DATABASE_ERRORS = (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What a statement can raise: by SQLAlchemy's road, and by COPY's, which goes past it."""
OUTAGE_CLASSES = ("08", "53", "57P")  # connection, too few resources, the server is starting or stopping
BAD_VALUE_CLASS = "22"
LOCK_NOT_HAD = ("55P03", "40P01")  # it took too long, or both would have waited for ever


def is_outage(error: BaseException) -> bool:
    """Say whether an error means that PostgreSQL is not there just now, rather than that a statement was wrong."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if is_bad_value(error):
        return False
    if isinstance(error, DBAPIError) and (
        error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))
    ):
        return True
    return isinstance(error, asyncpg.InterfaceError) or sqlstate(error).startswith(OUTAGE_CLASSES)


def is_bad_value(error: BaseException) -> bool:
    """Say whether an error means that a value cannot be stored: out of a column's range, or text that is not text."""
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig is not None else error
    return isinstance(cause, asyncpg.DataError) or sqlstate(error).startswith(BAD_VALUE_CLASS)


def sqlstate(error: BaseException) -> str:
    """Return PostgreSQL's code of an error, or nothing if it has none."""
    return str(getattr(getattr(error, "orig", None) or error, "sqlstate", None) or "")


async def rows(session: Session, statement: str, **values: Any) -> Sequence[Row]:
    return (await session.execute(text(statement), values)).mappings().all()


async def row(session: Session, statement: str, **values: Any) -> Row | None:
    return (await session.execute(text(statement), values)).mappings().first()


async def execute(session: Session, statement: str, **values: Any) -> int:
    """Run a statement; return how many rows it touched."""
    result = await session.execute(text(statement), values)
    count: int = getattr(result, "rowcount", 0)
    return count


async def attempt(session: Session, statement: str, *, lock_timeout_ms: int) -> bool:
    """Run a statement unless it would wait for a lock for too long; say whether it was run."""
    await session.execute(text("select set_config('lock_timeout', :value, true)"), {"value": f"{lock_timeout_ms}ms"})
    try:
        async with session.begin_nested():
            await session.execute(text(statement))
    except DBAPIError as error:
        if sqlstate(error) not in LOCK_NOT_HAD:
            raise
        return False
    return True


async def copy_rows(session: Session, table: str, columns: Sequence[str], records: Sequence[Sequence[Any]]) -> None:
    """COPY records into a table within the session's transaction; the fastest way in."""
    driver = await _driver(await session.connection())
    await driver.copy_records_to_table(table, records=records, columns=list(columns))


async def copy_bytes(session: Session, table: str, columns: Sequence[str], chunks: AsyncIterable[bytes]) -> None:
    """COPY what is in PostgreSQL's binary form already; as `copy_rows`, not a transaction's first statement."""
    driver = await _driver(await session.connection())
    await driver.copy_to_table(table, source=chunks, columns=list(columns), format="binary")


async def driver_fetch(session: Session, statement: str, *values: Any) -> Sequence[Mapping[str, Any]]:
    """Run one statement ($1, $2 ...) within the session's transaction, past SQLAlchemy; not as its first one."""
    found: Sequence[Mapping[str, Any]] = await (await _driver(await session.connection())).fetch(statement, *values)
    return found


async def _driver(connection: AsyncConnection) -> Any:
    """Return asyncpg's own connection."""
    driver = (await connection.get_raw_connection()).driver_connection
    if driver is None:
        raise ConnectionError("the database connection is gone")
    return driver
