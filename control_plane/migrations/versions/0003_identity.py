"""device identity: certificates, denied keys, enrolment conflicts, statements signed by devices"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("fleet_enrolment_token", sa.Column("failures", sa.Integer(), server_default="0", nullable=False))
    op.add_column("fleet_device", sa.Column("last_nonce", sa.String(), nullable=True))
    ends = sa.Column(
        "boot_ends", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
    )
    op.add_column("fleet_device", ends)
    op.add_column("fleet_device", sa.Column("certificate_expires_at", sa.DateTime(timezone=True), nullable=True))
    _certificates()
    _denied_keys()
    _conflicts()
    _statements()


def _certificates() -> None:
    op.create_table(
        "fleet_certificate",
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("key_sha256", sa.String(), nullable=False),
        sa.Column("because", sa.String(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["fleet_device.id"], name=op.f("fk_fleet_certificate_device_id_fleet_device")
        ),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_fleet_certificate")),
    )
    op.create_index(op.f("ix_fleet_certificate_device_id"), "fleet_certificate", ["device_id"], unique=False)


def _denied_keys() -> None:
    op.create_table(
        "fleet_denied_key",
        sa.Column("key_sha256", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("compromised_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("denied_by", sa.String(), nullable=False),
        sa.Column("denied_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("key_sha256", name=op.f("pk_fleet_denied_key")),
    )


def _conflicts() -> None:
    op.create_table(
        "fleet_enrolment_conflict",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("public_key_pem", sa.String(), nullable=False),
        sa.Column("key_sha256", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["device_id"], ["fleet_device.id"], name=op.f("fk_fleet_enrolment_conflict_device_id_fleet_device")
        ),
        sa.ForeignKeyConstraint(
            ["token_hash"],
            ["fleet_enrolment_token.hash"],
            name=op.f("fk_fleet_enrolment_conflict_token_hash_fleet_enrolment_token"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fleet_enrolment_conflict")),
        sa.UniqueConstraint("device_id", "key_sha256", name=op.f("uq_fleet_enrolment_conflict_device_id_key_sha256")),
    )
    op.create_index(
        op.f("ix_fleet_enrolment_conflict_device_id"), "fleet_enrolment_conflict", ["device_id"], unique=False
    )


def _statements() -> None:
    op.create_table(
        "fleet_statement",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("statement_id", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("key_sha256", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["fleet_device.id"], name=op.f("fk_fleet_statement_device_id_fleet_device")
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_fleet_statement")),
        sa.UniqueConstraint(
            "device_id", "kind", "statement_id", name=op.f("uq_fleet_statement_device_id_kind_statement_id")
        ),
    )
    op.create_index("ix_fleet_statement_subject", "fleet_statement", ["subject"], unique=False)


def downgrade() -> None:
    for table in ("fleet_statement", "fleet_enrolment_conflict", "fleet_denied_key", "fleet_certificate"):
        op.drop_table(table)
    for column in ("certificate_expires_at", "boot_ends", "last_nonce"):
        op.drop_column("fleet_device", column)
    op.drop_column("fleet_enrolment_token", "failures")
