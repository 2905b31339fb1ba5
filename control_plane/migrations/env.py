"""Alembic's environment: every slice's tables, one lock timeout, one transaction per migration."""

import asyncio

from alembic import context
from sqlalchemy import Connection, pool, text

from control_plane.access import models as access
from control_plane.audit import models as audit
from control_plane.datasets import models as datasets
from control_plane.evaluation import models as evaluation
from control_plane.factory import models as factory
from control_plane.fleet import models as fleet
from control_plane.kit.db import Base, make_engine
from control_plane.lineage import models as lineage
from control_plane.pipelines import models as pipelines
from control_plane.registry import models as registry
from control_plane.review import models as review
from control_plane.rollout import models as rollout
from control_plane.telemetry import models as telemetry
from control_plane.training import models as training
from control_plane.webhooks import models as webhooks

SLICES = (
    access,
    audit,
    datasets,
    evaluation,
    factory,
    fleet,
    lineage,
    pipelines,
    registry,
    review,
    rollout,
    telemetry,
    training,
    webhooks,
)


def include_object(_: object, name: str | None, kind: str, reflected: bool, __: object) -> bool:
    """Leave alone what no model describes: the kit's own tables and the partitions made at run time."""
    foreign = name is not None and (name.startswith("kit_") or "_20" in name or name.endswith("_default"))
    return not (kind == "table" and reflected and foreign)


def run(connection: Connection) -> None:
    connection.execute(text("set lock_timeout = '5s'"))
    connection.execute(text("set statement_timeout = '10min'"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=include_object,
        transaction_per_migration=True,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_async() -> None:
    engine = make_engine(context.config.get_main_option("sqlalchemy.url") or "", poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


asyncio.run(run_async())
