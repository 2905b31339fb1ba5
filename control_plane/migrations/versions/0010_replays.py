"""What people may look at before they answer a gate's questions."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evaluation_replay",
        sa.Column("gate_id", sa.String(), nullable=False),
        sa.Column("suite", sa.String(), nullable=False),
        sa.Column("scenario", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("agrees", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["gate_id"], ["evaluation_gate.id"], name=op.f("fk_evaluation_replay_gate_id_evaluation_gate")
        ),
        sa.PrimaryKeyConstraint("gate_id", "suite", "scenario", "side", name=op.f("pk_evaluation_replay")),
    )


def downgrade() -> None:
    op.drop_table("evaluation_replay")
