"""What strangers put into the object store counts only once it has been checked."""

from control_plane.kit.objects import CorruptObjectError, ObjectMissingError, ObjectStore, Stored


async def settle(objects: ObjectStore, sha256: str, size_bytes: int) -> Stored | None:
    """Return the object, taking it in from its upload place first if need be; None if it is not there or not it."""
    stored = await objects.stat(sha256)
    if stored is None:
        try:
            stored = await objects.accept(sha256, size_bytes)
        except (ObjectMissingError, CorruptObjectError):
            return None
    return stored if stored.size == size_bytes else None
