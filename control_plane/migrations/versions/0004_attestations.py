"""attestations, what releases wait for, ways back"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "registry_attestation",
        sa.Column("envelope_sha256", sa.String(), nullable=False),
        sa.Column("subject_sha256", sa.String(), nullable=False),
        sa.Column("predicate_type", sa.String(), nullable=False),
        sa.Column("keyids", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("owners", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("received_by", sa.String(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("envelope_sha256", name=op.f("pk_registry_attestation")),
    )
    op.create_index("ix_registry_attestation_subject_sha256", "registry_attestation", ["subject_sha256"])
    op.add_column("registry_release", sa.Column("way_back_of", sa.String(), nullable=True))
    op.add_column("registry_release", sa.Column("published_revision", sa.BigInteger(), nullable=True))
    op.add_column("registry_release", sa.Column("waits_for", sa.String(), server_default="", nullable=False))
    op.create_index("ix_registry_release_way_back_of", "registry_release", ["way_back_of"])
    classes = sa.Column(
        "device_classes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False
    )
    op.add_column("evaluation_gate", classes)


def downgrade() -> None:
    op.drop_column("evaluation_gate", "device_classes")
    op.drop_index("ix_registry_release_way_back_of", "registry_release")
    op.drop_column("registry_release", "waits_for")
    op.drop_column("registry_release", "published_revision")
    op.drop_column("registry_release", "way_back_of")
    op.drop_table("registry_attestation")
