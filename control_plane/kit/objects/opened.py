"""Which object store an installation's settings name."""

from pathlib import Path

from control_plane.kit.objects.local import LocalStore
from control_plane.kit.objects.port import ObjectStore
from control_plane.kit.objects.s3 import S3Settings, S3Store
from control_plane.kit.settings import Settings
from control_plane.kit.signing import load_secret


def open_objects(settings: Settings) -> ObjectStore:
    """Return the configured object store; nothing is read or written before it is started."""
    where = settings.object_store
    if where is not None and where.startswith("s3://"):
        return S3Store(S3Settings(bucket=where.removeprefix("s3://"), endpoint=settings.s3_endpoint))
    folder = Path(where) if where else settings.home / "objects"
    return LocalStore(folder, load_secret(settings.keys, "object-urls.secret"))
