"""Devices by stratum, counted as they come and go."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# One statement, however many devices it moves, changes each stratum once, in one order: so two statements wait for
# each other and never lock each other out. A check-in moves no device and touches no stratum.
COUNT = """
create function {name}() returns trigger language plpgsql as $$
begin
    insert into fleet_stratum as s (device_class, site, devices)
    select device_class, site, sum(n) from ({moved}) as moved
    group by device_class, site having sum(n) <> 0 order by device_class, site
    on conflict (device_class, site) do update set devices = s.devices + excluded.devices;
    return null;
end $$
"""
CAME = "select device_class, site, 1 as n from came where state = 'active'"
WENT = "select device_class, site, -1 as n from went where state = 'active'"
EMPTY = """
create function fleet_strata_empty() returns trigger language plpgsql as $$
begin
    delete from fleet_stratum;
    return null;
end $$
"""
TRIGGERS = {
    "fleet_strata_insert": ("insert", "referencing new table as came", CAME),
    "fleet_strata_update": ("update", "referencing new table as came old table as went", f"{CAME} union all {WENT}"),
    "fleet_strata_delete": ("delete", "referencing old table as went", WENT),
}


def upgrade() -> None:
    op.create_table(
        "fleet_stratum",
        sa.Column("device_class", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("devices", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_class", "site", name=op.f("pk_fleet_stratum")),
    )
    for name, (event, tables, moved) in TRIGGERS.items():
        op.execute(COUNT.format(name=name, moved=moved))
        op.execute(
            f"create trigger {name} after {event} on fleet_device {tables} for each statement execute function {name}()"
        )
    op.execute(EMPTY)
    op.execute(
        "create trigger fleet_strata_empty after truncate on fleet_device "
        "for each statement execute function fleet_strata_empty()"
    )
    # The triggers hold every writer back until this is committed, so nobody is counted twice or missed.
    op.execute(
        "insert into fleet_stratum (device_class, site, devices) "
        "select device_class, site, count(*) from fleet_device where state = 'active' group by device_class, site"
    )


def downgrade() -> None:
    for name in (*TRIGGERS, "fleet_strata_empty"):
        op.execute(f"drop trigger {name} on fleet_device")
        op.execute(f"drop function {name}()")
    op.drop_table("fleet_stratum")
