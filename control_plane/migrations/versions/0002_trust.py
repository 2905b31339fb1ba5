"""the TUF repository"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A device that was offline for years walks every root there ever was; one missing row strands it for good.
KEEP = """
create function registry_tuf_refuse() returns trigger language plpgsql as
    $$ begin
        if tg_op = 'DELETE' and old.role <> 'root' then return old; end if;
        raise exception 'published metadata is never changed, and no root is ever deleted';
    end $$;
create trigger registry_tuf_metadata_keep before update or delete on registry_tuf_metadata
    for each row execute function registry_tuf_refuse();
create trigger registry_tuf_metadata_keep_all before truncate on registry_tuf_metadata
    for each statement execute function registry_tuf_refuse();
"""


def upgrade() -> None:
    op.create_table(
        "registry_tuf_metadata",
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("role", "version", name=op.f("pk_registry_tuf_metadata")),
    )
    op.create_table(
        "registry_tuf_target",
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("length_bytes", sa.BigInteger(), nullable=False),
        sa.Column("custom", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("path", "sha256", name=op.f("pk_registry_tuf_target")),
    )
    op.create_index(
        "uq_registry_tuf_target_current",
        "registry_tuf_target",
        ["path"],
        unique=True,
        postgresql_where=sa.text("replaced_at IS NULL"),
    )
    op.create_index("ix_registry_tuf_target_role", "registry_tuf_target", ["role"], unique=False)
    op.create_table(
        "registry_trust_alarm",
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("because", sa.String(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_registry_trust_alarm")),
    )
    for statement in KEEP.strip().split(";\ncreate"):
        op.execute(statement if statement.startswith("create") else f"create{statement}")


def downgrade() -> None:
    op.drop_table("registry_trust_alarm")
    op.drop_table("registry_tuf_target")
    op.drop_table("registry_tuf_metadata")
    op.execute("drop function registry_tuf_refuse()")
