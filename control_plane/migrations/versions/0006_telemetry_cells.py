"""Sums of exposure that evidence is read from."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# A loop over what is new, which is little: as one query it took ten times as long. Counts stop at the end of their type
# and kinds at 200: one device that reports nonsense must not make the others' windows unstorable.
FUNCTIONS = (
    """create function telemetry_add_counts(held jsonb, more jsonb) returns jsonb
    language plpgsql immutable parallel safe as $$
    declare
        kind text;
        amount numeric;
    begin
        for kind, amount in select key, value::numeric from jsonb_each_text(more) loop
            if held ? kind then
                amount := least((held ->> kind)::numeric + amount, 9e18);
            elsif (select count(*) from jsonb_object_keys(held)) >= 200 then
                continue;
            end if;
            held := held || jsonb_build_object(kind, amount);
        end loop;
        return held;
    end $$""",
    """create aggregate telemetry_sum_counts(jsonb)
    (sfunc = telemetry_add_counts, stype = jsonb, initcond = '{}')""",
)

# Every content that a device has said in a check-in it runs. A device says the same again and again; only news fire.
ATTEST = (
    """create function telemetry_attest() returns trigger language plpgsql as $$
    begin
        insert into telemetry_attested (device_id, content_digest, said_at)
        values (new.id, new.active_content, now()) on conflict do nothing;
        return null;
    end $$""",
    """create trigger telemetry_attest after update of active_content on fleet_device for each row
    when (new.active_content is not null and new.active_content is distinct from old.active_content)
    execute function telemetry_attest()""",
    """insert into telemetry_attested (device_id, content_digest, said_at)
    select id, active_content, now() from fleet_device where active_content is not null""",
)

# What was taken in before there were cells counts in them as well.
CELLS = """
insert into telemetry_cell (device_class, site, content_digest, starts_at, width_s, first_window_at, distance_mm,
    duration_ms, decisions, energy_mj, windows, counts, changed)
select device_class, site, content_digest, to_timestamp(floor(extract(epoch from ended_at) / 60) * 60), 60,
    min(ended_at), sum(round(distance_m * 1000)), sum(round(duration_s * 1000)), sum(decisions),
    sum(round(energy_j * 1000)), count(*), telemetry_sum_counts(counts), pg_current_xact_id()::text::bigint
from telemetry_window where ended_at > received_at - interval '30 days' and ended_at <= received_at + interval '5 min'
group by 1, 2, 3, 4
"""
TOTALS = """
insert into telemetry_total (device_class, site, content_digest, distance_mm, duration_ms, decisions, energy_mj,
    windows, counts)
select device_class, site, content_digest, sum(round(distance_m * 1000)), sum(round(duration_s * 1000)),
    sum(decisions), sum(round(energy_j * 1000)), count(*), telemetry_sum_counts(counts)
from telemetry_window group by 1, 2, 3
"""
DEVICE_SUMS = """
insert into telemetry_device_sum (device_id, content_digest, device_class, site, distance_mm, duration_ms, windows,
    counts, first_at, last_at)
select device_id, content_digest, device_class, site, sum(round(distance_m * 1000)), sum(round(duration_s * 1000)),
    count(*), telemetry_sum_counts(counts), min(ended_at), max(ended_at)
from telemetry_window group by 1, 2, 3, 4
"""


def upgrade() -> None:
    op.create_table(
        "telemetry_cell",
        *_key("device_class", "site", "content_digest"),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("width_s", sa.Integer(), nullable=False),
        sa.Column("first_window_at", sa.DateTime(timezone=True), nullable=False),
        *_amounts(),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_class", "site", "content_digest", "starts_at", name=op.f("pk_telemetry_cell")),
    )
    # Rows are written again and again while they are young. What sums up pages instead of pointing at rows lets them be
    # rewritten in place; a page has room for that. Young rows lie together, so it still finds what changed.
    op.execute("alter table telemetry_cell set (fillfactor = 50)")
    op.create_index(
        "ix_telemetry_cell_changed",
        "telemetry_cell",
        ["changed"],
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 32, "autosummarize": "on"},
    )
    op.create_index("ix_telemetry_cell_starts_at", "telemetry_cell", ["starts_at"])
    op.create_table(
        "telemetry_total",
        *_key("device_class", "site", "content_digest"),
        *_amounts(),
        sa.PrimaryKeyConstraint("device_class", "site", "content_digest", name=op.f("pk_telemetry_total")),
    )
    op.create_table(
        "telemetry_device_sum",
        *_key("device_id", "content_digest", "device_class", "site"),
        sa.Column("distance_mm", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("windows", sa.BigInteger(), nullable=False),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "device_id", "content_digest", "device_class", "site", name=op.f("pk_telemetry_device_sum")
        ),
    )
    op.execute("alter table telemetry_device_sum set (fillfactor = 70)")
    op.execute("alter table telemetry_stream set (fillfactor = 70)")
    op.create_index("ix_telemetry_device_sum_content", "telemetry_device_sum", ["content_digest", "device_class"])
    op.create_table(
        "telemetry_panel",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("halvings", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_telemetry_panel")),
    )
    op.create_table(
        "telemetry_attested",
        *_key("device_id", "content_digest"),
        sa.Column("said_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "content_digest", name=op.f("pk_telemetry_attested")),
    )
    op.add_column(
        "telemetry_window", sa.Column("attested", sa.Boolean(), server_default=sa.text("true"), nullable=False)
    )
    op.execute("insert into telemetry_panel (name, halvings) values ('devices', 0)")
    for statement in (*FUNCTIONS, *ATTEST, CELLS, TOTALS, DEVICE_SUMS):
        op.execute(statement)


def _key(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(), nullable=False) for name in names]


def _amounts() -> list[sa.Column[Any]]:
    names = ("distance_mm", "duration_ms", "decisions", "energy_mj", "windows")
    counts = sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False)
    return [*(sa.Column(name, sa.BigInteger(), nullable=name == "energy_mj") for name in names), counts]


def downgrade() -> None:
    op.execute("drop trigger telemetry_attest on fleet_device")
    op.execute("drop function telemetry_attest()")
    op.execute("drop aggregate telemetry_sum_counts(jsonb)")
    op.execute("drop function telemetry_add_counts(jsonb, jsonb)")
    op.execute("alter table telemetry_stream reset (fillfactor)")
    op.drop_column("telemetry_window", "attested")
    op.drop_table("telemetry_attested")
    op.drop_table("telemetry_panel")
    op.drop_index("ix_telemetry_device_sum_content", table_name="telemetry_device_sum")
    op.drop_table("telemetry_device_sum")
    op.drop_table("telemetry_total")
    op.drop_index("ix_telemetry_cell_starts_at", table_name="telemetry_cell")
    op.drop_index("ix_telemetry_cell_changed", table_name="telemetry_cell")
    op.drop_table("telemetry_cell")
