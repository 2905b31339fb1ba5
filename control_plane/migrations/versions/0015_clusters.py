"""Clusters say what they have, jobs where they were placed and why; a job asked for anew counts so."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

STATED: dict[str, tuple[sa.types.TypeEngine[Any], str | None]] = {
    "cpus": (sa.Double(), None),
    "gpus": (sa.Double(), "0"),
    "memory_bytes": (sa.BigInteger(), None),
    "slots": (sa.Integer(), None),
    "speed": (sa.Double(), "1"),
    "queue_s": (sa.Double(), "0"),
    "usd_per_gpu_hour": (sa.Double(), "0"),
    "gpu_watts": (sa.Double(), "0"),
}
# Placing a job asks how many wait and how long the last of its kind took, whatever the ledger's age.
INDEXES: dict[str, tuple[list[str], str]] = {
    "ix_factory_job_unfinished": (["cluster"], "state in ('queued', 'running')"),
    "ix_factory_job_took": (["cluster", "kind", "created_at"], "state = 'done' and attempt = 1"),
}


def upgrade() -> None:
    for name, (kind, default) in STATED.items():
        op.add_column("factory_cluster", sa.Column(name, kind, nullable=default is None, server_default=default))
    op.add_column("factory_job", sa.Column("asked", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("factory_job", sa.Column("cancel_reason", sa.String(), nullable=True))
    op.add_column("factory_job", sa.Column("placement", JSONB(), nullable=True))
    op.add_column("factory_job", sa.Column("wanted_by", JSONB(), nullable=False, server_default="[]"))
    for name, (columns, where) in INDEXES.items():
        op.create_index(name, "factory_job", columns, postgresql_where=sa.text(where))


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, "factory_job")
    for name in ("wanted_by", "placement", "cancel_reason", "asked"):
        op.drop_column("factory_job", name)
    for name in STATED:
        op.drop_column("factory_cluster", name)
