"""Heat of a window, where a device measures it; answers kept for a repeat are found by age, so that they can go."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

HEAT = ("temperature_max_c", "throttled_s")


def upgrade() -> None:
    # Without a default: no row of any partition is written.
    for name in HEAT:
        op.add_column("telemetry_window", sa.Column(name, sa.Double(), nullable=True))
    op.create_index("ix_kit_idempotency_at", "kit_idempotency", ["at"])


def downgrade() -> None:
    op.drop_index("ix_kit_idempotency_at", "kit_idempotency")
    for name in HEAT:
        op.drop_column("telemetry_window", name)
