"""A device class's rule for switching, and who of a site may be out."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("fleet_device_class", sa.Column("safe_state", sa.String(), server_default="", nullable=False))
    op.add_column("rollout_deployment", sa.Column("site_granted_until", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("rollout_deployment", "site_granted_until")
    op.drop_column("fleet_device_class", "safe_state")
