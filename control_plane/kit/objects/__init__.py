"""The object store: immutable bytes known by their sha256, and names that are given once."""

from control_plane.kit.objects.errors import (
    BadUrlError,
    CorruptObjectError,
    InvalidDigestError,
    InvalidNameError,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreUnavailableError,
)
from control_plane.kit.objects.local import Grant, LocalStore
from control_plane.kit.objects.port import (
    CHUNK,
    MAX_IN_MEMORY,
    MAX_OBJECT,
    Layout,
    Listed,
    ObjectStore,
    Stored,
    check_digest,
    check_name,
    object_key,
)
from control_plane.kit.objects.s3 import S3Settings, S3Store

__all__ = [
    "CHUNK",
    "MAX_IN_MEMORY",
    "MAX_OBJECT",
    "BadUrlError",
    "CorruptObjectError",
    "Grant",
    "InvalidDigestError",
    "InvalidNameError",
    "Layout",
    "Listed",
    "LocalStore",
    "ObjectMissingError",
    "ObjectStore",
    "ObjectTooLargeError",
    "S3Settings",
    "S3Store",
    "StoreUnavailableError",
    "Stored",
    "check_digest",
    "check_name",
    "object_key",
]
