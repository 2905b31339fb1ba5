"""Attempts to sign in are counted for all processes together; they are not worth a log that survives a crash."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "access_attempt",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_access_attempt_key", "access_attempt", ["key", "at"])
    op.create_index("ix_access_attempt_at", "access_attempt", ["at"])


def downgrade() -> None:
    op.drop_table("access_attempt")
