"""Devices as the fleet page lists and counts them; views of it that people saved; a device's own events."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

UPDATING = "('downloading', 'verified', 'qualifying', 'shadow', 'armed', 'trial')"
HEALTH = f"""
create function fleet_health(state text, deployment jsonb) returns text language sql immutable parallel safe as $$
    select case when state <> 'active' then state
        when deployment ->> 'phase' = 'reverted' then 'reverted'
        when deployment ->> 'phase' = 'refused' then 'failed'
        when deployment ->> 'phase' in {UPDATING} then 'updating'
        else 'ok' end
$$
"""
WAITING = f"""
create function fleet_waiting(state text, deployment jsonb) returns text language sql immutable parallel safe as $$
    select case when state = 'active' and deployment ->> 'phase' in {UPDATING}
        then left(coalesce(deployment ->> 'reason', ''), 64) else '' end
$$
"""
LISTED = (
    "id, serial, site, device_class, coalesce(active_content, ''), fleet_health(state, deployment), "
    "fleet_waiting(state, deployment)"
)
COLUMNS = "device_id, serial, site, device_class, content, health, waiting"
FACETS = "site, device_class, content, health, waiting"

# A check-in that brings nothing new does not name these columns or changes none of them, and calls no function.
CAME = f"""
create function fleet_listing_came() returns trigger language plpgsql as $$
begin
    insert into fleet_listing ({COLUMNS}) select {LISTED} from came;
    return null;
end $$
"""
WENT = """
create function fleet_listing_went() returns trigger language plpgsql as $$
begin
    delete from fleet_listing where device_id in (select id from went);
    return null;
end $$
"""
CHANGED = """
create function fleet_listing_changed() returns trigger language plpgsql as $$
begin
    update fleet_listing set site = new.site, device_class = new.device_class,
        content = coalesce(new.active_content, ''), health = fleet_health(new.state, new.deployment),
        waiting = fleet_waiting(new.state, new.deployment)
    where device_id = new.id;
    return null;
end $$
"""
EMPTIED = """
create function fleet_listing_emptied() returns trigger language plpgsql as $$
begin
    delete from fleet_listing;
    return null;
end $$
"""
NEWS = " or ".join(
    f"old.{what} is distinct from new.{what}"
    for what in (
        "site",
        "device_class",
        "state",
        "active_content",
        "deployment ->> 'phase'",
        "deployment ->> 'reason'",
    )
)
WATCH = {
    "fleet_listing_came": "after insert on fleet_device referencing new table as came for each statement",
    "fleet_listing_went": "after delete on fleet_device referencing old table as went for each statement",
    "fleet_listing_changed": "after update of site, device_class, state, active_content, deployment on fleet_device "
    f"for each row when ({NEWS})",
    "fleet_listing_emptied": "after truncate on fleet_device for each statement",
}

# Differences are only ever added, so writers never wait for each other and cannot lock each other out; who reads sums
# up, and the worker folds them into one row for each cell.
COUNT = f"""
create function {{name}}() returns trigger language plpgsql as $$
begin
    insert into fleet_facet ({FACETS}, devices)
    select {FACETS}, sum(n) from ({{moved}}) as moved group by {FACETS} having sum(n) <> 0;
    return null;
end $$
"""
PLUS, MINUS = f"select {FACETS}, 1 as n from came", f"select {FACETS}, -1 as n from went"
COUNTERS = {
    "fleet_facet_insert": ("insert", "referencing new table as came", PLUS),
    "fleet_facet_update": ("update", "referencing new table as came old table as went", f"{PLUS} union all {MINUS}"),
    "fleet_facet_delete": ("delete", "referencing old table as went", MINUS),
}
SORTED = ("site", "device_class", "content", "health")


def upgrade() -> None:
    for statement in (HEALTH, WAITING, CAME, WENT, CHANGED, EMPTIED):
        op.execute(statement)
    _tables()
    # The triggers hold every writer back until this is committed, so nobody is counted twice or missed.
    for name, when in WATCH.items():
        op.execute(f"create trigger {name} {when} execute function {name}()")
    op.execute(f"insert into fleet_listing ({COLUMNS}) select {LISTED} from fleet_device")
    op.execute(
        f"insert into fleet_facet ({FACETS}, devices) select {FACETS}, count(*) from fleet_listing group by {FACETS}"
    )
    for name, (event, tables, moved) in COUNTERS.items():
        op.execute(COUNT.format(name=name, moved=moved))
        op.execute(
            f"create trigger {name} after {event} on fleet_listing {tables} "
            f"for each statement execute function {name}()"
        )
    op.create_index("ix_fleet_listing_serial", "fleet_listing", ["serial"], unique=True)
    for column in SORTED:
        op.create_index(f"ix_fleet_listing_{column}", "fleet_listing", [column, "serial"])
    op.create_index(
        "ix_fleet_listing_waiting", "fleet_listing", ["waiting", "serial"], postgresql_where=sa.text("waiting <> ''")
    )
    op.create_index("ix_telemetry_event_device", "telemetry_event", ["device_id", "number"])


def _tables() -> None:
    plain = [_name(column) for column in ("serial", *SORTED, "waiting")]
    op.create_table(
        "fleet_listing", _name("device_id"), *plain, sa.PrimaryKeyConstraint("device_id", name="pk_fleet_listing")
    )
    facets = [_name(column) for column in ("site", "device_class", "content", "health", "waiting")]
    op.create_table(
        "fleet_facet",
        *facets,
        sa.Column("devices", sa.BigInteger(), nullable=False),
    )
    # It has few rows and many come and go: without this its dead ones are left lying and every count walks over them.
    op.execute(
        "alter table fleet_facet set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, "
        "autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000)"
    )
    op.create_table(
        "fleet_view",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("query", sa.String(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fleet_view")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_fleet_view_owner_name")),
    )


def _name(column: str) -> sa.Column[str]:
    # Compared byte by byte: quick, and a prefix is a range of any index.
    return sa.Column(column, sa.String(collation="C"), nullable=False)


def downgrade() -> None:
    op.drop_index("ix_telemetry_event_device", "telemetry_event")
    for name in WATCH:
        op.execute(f"drop trigger {name} on fleet_device")
        op.execute(f"drop function {name}()")
    op.drop_table("fleet_view")
    op.drop_table("fleet_facet")
    op.drop_table("fleet_listing")
    for name in COUNTERS:
        op.execute(f"drop function {name}()")
    op.execute("drop function fleet_waiting(text, jsonb)")
    op.execute("drop function fleet_health(text, jsonb)")
