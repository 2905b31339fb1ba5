"""Exporters of clusters, what they said by the minute, which GPUs attempts held; traces and lineage events."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

AT = sa.DateTime(timezone=True)
AMOUNTS = ("energy_j", "busy_s", "capacity_s", "tokens_out", "tokens_in", "requests", "queue_s")
# What the trace that led to a thing is called (W3C traceparent); null where none did.
TRACED = ("kit_outbox", "factory_job", "pipeline_run")


def _now() -> Any:
    return sa.func.now()


def upgrade() -> None:
    op.add_column("factory_cluster", sa.Column("usd_per_kwh", sa.Double(), nullable=False, server_default="0"))
    op.create_table(
        "factory_exporter",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("created_at", AT, server_default=_now(), nullable=False),
        sa.Column("next_at", AT, server_default=_now(), nullable=False),
        sa.Column("tried_at", AT, nullable=True),
        sa.Column("answered_at", AT, nullable=True),
        sa.Column("error", sa.String(), server_default="", nullable=False),
        sa.Column("dropped", sa.Integer(), server_default="0", nullable=False),
        sa.Column("started_at", AT, nullable=True),
        sa.Column("reading", JSONB(), nullable=True),
        sa.Column("places", JSONB(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster"],
            ["factory_cluster.name"],
            name="fk_factory_exporter_cluster_factory_cluster",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_factory_exporter"),
        sa.UniqueConstraint("cluster", "url", name="uq_factory_exporter_cluster_url"),
    )
    op.create_index("ix_factory_exporter_next_at", "factory_exporter", ["next_at"])
    op.create_table(
        "factory_meter",
        sa.Column("exporter", sa.String(), nullable=False),
        sa.Column("at", AT, nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("answers", sa.Integer(), server_default="0", nullable=False),
        sa.Column("covered_s", sa.Double(), server_default="0", nullable=False),
        *(sa.Column(name, sa.Double(), nullable=True) for name in AMOUNTS),
        sa.Column("histograms", JSONB(), nullable=True),
        sa.ForeignKeyConstraint(
            ["exporter"], ["factory_exporter.id"], name="fk_factory_meter_exporter_factory_exporter", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("exporter", "at", "source", name="pk_factory_meter"),
    )
    op.create_index("ix_factory_meter_at", "factory_meter", ["at"])
    op.create_table(
        "factory_use",
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("gpu_ids", JSONB(), nullable=False),
        sa.Column("began_at", AT, nullable=False),
        sa.Column("ended_at", AT, nullable=True),
        sa.Column("estimate_j", sa.Double(), server_default="0", nullable=False),
        sa.Column("energy_j", sa.Double(), nullable=True),
        sa.Column("busy", sa.Double(), nullable=True),
        sa.Column("covered", sa.Double(), nullable=True),
        sa.Column("note", sa.String(), server_default="", nullable=False),
        sa.Column("settled_at", AT, nullable=True),
        sa.ForeignKeyConstraint(
            ["job"], ["factory_job.key"], name="fk_factory_use_job_factory_job", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job", "asked", "attempt", name="pk_factory_use"),
    )
    op.create_index("ix_factory_use_open", "factory_use", ["ended_at"], postgresql_where=sa.text("settled_at is null"))
    op.create_index("ix_factory_use_of", "factory_use", ["cluster", "began_at"])
    for table in TRACED:
        op.add_column(table, sa.Column("traceparent", sa.String(), nullable=True))
    op.create_index(
        "ix_kit_outbox_traced", "kit_outbox", ["topic", "id"], postgresql_where=sa.text("traceparent is not null")
    )
    op.add_column("webhook", sa.Column("form", sa.String(), nullable=False, server_default="fleetloop"))
    op.add_column("webhook_delivery", sa.Column("line", sa.String(), nullable=True))
    op.create_index(
        "ix_webhook_delivery_line",
        "webhook_delivery",
        ["webhook_id", "line", "id"],
        postgresql_where=sa.text("state = 'waiting' and line is not null"),
    )


def downgrade() -> None:
    op.drop_index("ix_webhook_delivery_line", "webhook_delivery")
    op.drop_column("webhook_delivery", "line")
    op.drop_column("webhook", "form")
    op.drop_index("ix_kit_outbox_traced", "kit_outbox")
    for table in TRACED:
        op.drop_column(table, "traceparent")
    for table in ("factory_use", "factory_meter", "factory_exporter"):
        op.drop_table(table)
    op.drop_column("factory_cluster", "usd_per_kwh")
