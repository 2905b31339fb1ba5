"""Active devices by their counter floor, so that a plan finds at once who would refuse its release."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_fleet_device_floor",
        "fleet_device",
        ["device_class", "site", "counter_floor"],
        postgresql_where=sa.text("state = 'active'"),
    )


def downgrade() -> None:
    op.drop_index("ix_fleet_device_floor", "fleet_device")
