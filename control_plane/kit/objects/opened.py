"""Which object store an installation's settings name."""

from pathlib import Path

from control_plane.kit.errors import Invalid
from control_plane.kit.objects.local import LocalStore
from control_plane.kit.objects.port import ObjectStore
from control_plane.kit.objects.s3 import S3Settings, S3Store
from control_plane.kit.settings import Settings
from control_plane.kit.signing import load_secret


def unreachable_by_devices(settings: Settings) -> str | None:
    """Say why devices would not bring recordings to the configured store: they come by TLS and do not leave it."""
    if settings.object_store is None or not settings.object_store.startswith("s3://"):
        return None
    endpoint = settings.s3_public_endpoint or settings.s3_endpoint or "https://"
    if endpoint.startswith("https://"):
        return None
    return f"devices refuse to be sent from https to {endpoint}; name one in FLEETLOOP_S3_PUBLIC_ENDPOINT that has TLS"


def s3_of(settings: Settings, bucket: str) -> S3Settings:
    """Return how the bucket is spoken to; AWS's own has it in the host's name, other servers seldom have such names.

    Raises:
        Invalid: a key is named, and nothing that is encrypted with it.
    """
    if settings.s3_kms_key and settings.s3_encryption != "aws:kms":
        raise Invalid("FLEETLOOP_S3_KMS_KEY is used with FLEETLOOP_S3_ENCRYPTION=aws:kms alone; set that as well")
    addressing = settings.s3_addressing or ("path" if settings.s3_endpoint else "virtual")
    return S3Settings(
        bucket,
        settings.s3_endpoint,
        settings.s3_public_endpoint,
        settings.s3_region,
        virtual=addressing == "virtual",
        encryption=settings.s3_encryption,
        kms_key=settings.s3_kms_key,
    )


def open_objects(settings: Settings) -> ObjectStore:
    """Return the configured object store; nothing is read or written before it is started."""
    where = settings.object_store
    if where is not None and where.startswith("s3://"):
        return S3Store(s3_of(settings, where.removeprefix("s3://")))
    folder = Path(where) if where else settings.home / "objects"
    return LocalStore(folder, load_secret(settings.keys, "object-urls.secret"))
