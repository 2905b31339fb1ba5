"""Standings of deployments, and what rollouts decide by."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())
EMPTY, NOTHING = sa.text("'{}'::jsonb"), sa.text("'[]'::jsonb")
# One statement, however many devices it moves, changes each count once and all in one order: two of them wait for each
# other and never lock each other out.
COUNT = """
create function {name}() returns trigger language plpgsql as $$
begin
    insert into rollout_tally as t (rollout_id, site, device_class, standing, devices)
    select rollout_id, site, device_class, standing, sum(n) from ({moved}) as moved
    group by rollout_id, site, device_class, standing having sum(n) <> 0
    order by rollout_id, site, device_class, standing
    on conflict (rollout_id, site, device_class, standing) do update set devices = t.devices + excluded.devices;
    return null;
end $$
"""
CAME = "select rollout_id, site, device_class, standing, 1 as n from came"
WENT = "select rollout_id, site, device_class, standing, -1 as n from went"
TRIGGERS = {
    "rollout_tally_insert": ("insert", "referencing new table as came", CAME),
    "rollout_tally_update": ("update", "referencing new table as came old table as went", f"{CAME} union all {WENT}"),
    "rollout_tally_delete": ("delete", "referencing old table as went", WENT),
}
STANDING = """
update rollout_deployment d set standing = case
    when d.phase in ('committed', 'idle') and d.active_content = r.content_digest then 'committed'
    when d.phase = 'refused' then 'failed'
    when d.phase = 'reverted' then 'reverted'
    when d.phase in ('committed', 'idle', 'offered') then case when r.offering then 'offered' else 'returned' end
    else 'working' end
from rollout r where r.id = d.rollout_id
"""


def upgrade() -> None:
    op.add_column("rollout", sa.Column("counts", JSONB, server_default=EMPTY, nullable=False))
    op.add_column("rollout", sa.Column("sizes", JSONB, server_default=EMPTY, nullable=False))
    op.add_column("rollout", sa.Column("wave", sa.Integer(), server_default="0", nullable=False))
    op.add_column("rollout", sa.Column("wave_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("rollout", sa.Column("preempts", JSONB, server_default=NOTHING, nullable=False))
    op.add_column("rollout", sa.Column("preempted_by", sa.String(), server_default="", nullable=False))
    op.add_column("rollout", sa.Column("forecast", JSONB, server_default=EMPTY, nullable=False))
    op.add_column("rollout", sa.Column("plan_override", sa.String(), server_default="", nullable=False))
    op.add_column("rollout_decision", sa.Column("evidence", JSONB, server_default=EMPTY, nullable=False))
    op.add_column("rollout_deployment", sa.Column("standing", sa.String(), server_default="offered", nullable=False))
    op.add_column("rollout_deployment", sa.Column("attempts", sa.Integer(), server_default="0", nullable=False))
    op.add_column("rollout_deployment", sa.Column("cell", sa.String(), nullable=True))
    now = sa.text("now()")
    op.add_column(
        "rollout_deployment", sa.Column("looked_at", sa.DateTime(timezone=True), server_default=now, nullable=False)
    )
    op.create_index("ix_rollout_deployment_device", "rollout_deployment", ["device_id"])
    op.execute(STANDING)
    op.create_index("ix_rollout_deployment_standing", "rollout_deployment", ["rollout_id", "standing", "device_id"])
    op.create_table(
        "rollout_tally",
        sa.Column("rollout_id", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("device_class", sa.String(), nullable=False),
        sa.Column("standing", sa.String(), nullable=False),
        sa.Column("devices", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rollout_id", "site", "device_class", "standing", name=op.f("pk_rollout_tally")),
    )
    for name, (event, tables, moved) in TRIGGERS.items():
        op.execute(COUNT.format(name=name, moved=moved))
        op.execute(
            f"create trigger {name} after {event} on rollout_deployment {tables} "
            f"for each statement execute function {name}()"
        )
    op.add_column("rollout_baseline", sa.Column("site", sa.String(), server_default="", nullable=False))
    op.drop_constraint("pk_rollout_baseline", "rollout_baseline")
    op.create_primary_key("pk_rollout_baseline", "rollout_baseline", ["device_class", "site"])
    # The triggers hold every writer back until this is committed, so nobody is counted twice or missed.
    op.execute(
        "insert into rollout_tally (rollout_id, site, device_class, standing, devices) "
        "select rollout_id, site, device_class, standing, count(*) from rollout_deployment group by 1, 2, 3, 4"
    )


def downgrade() -> None:
    for name in TRIGGERS:
        op.execute(f"drop trigger {name} on rollout_deployment")
        op.execute(f"drop function {name}()")
    op.drop_table("rollout_tally")
    op.execute("delete from rollout_baseline where site <> ''")
    op.drop_constraint("pk_rollout_baseline", "rollout_baseline")
    op.create_primary_key("pk_rollout_baseline", "rollout_baseline", ["device_class"])
    op.drop_column("rollout_baseline", "site")
    op.drop_index("ix_rollout_deployment_standing", "rollout_deployment")
    op.drop_index("ix_rollout_deployment_device", "rollout_deployment")
    for column in ("looked_at", "cell", "attempts", "standing"):
        op.drop_column("rollout_deployment", column)
    op.drop_column("rollout_decision", "evidence")
    for column in ("plan_override", "forecast", "preempted_by", "preempts", "wave_since", "wave", "sizes", "counts"):
        op.drop_column("rollout", column)
