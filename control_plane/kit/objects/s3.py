"""The object store on S3: boto3 in threads. Uploads by URL land beside the objects until they are checked."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import boto3
import botocore.exceptions
from botocore.config import Config

from control_plane.kit import clock
from control_plane.kit.objects import checked
from control_plane.kit.objects.errors import (
    CorruptObjectError,
    ObjectMissingError,
    StoreUnavailableError,
)
from control_plane.kit.objects.port import (
    CHUNK,
    MAX_IN_MEMORY,
    MAX_OBJECT,
    Layout,
    Listed,
    Source,
    Stored,
    check_digest,
    check_name,
    check_size,
    object_key,
)
from control_plane.kit.objects.s3_copy import TRANSFER, S3Copies
from control_plane.kit.objects.s3_parts import S3Parts

LONGEST_S = 7 * 86_400
FIRST_REGION = "us-east-1"  # whose buckets are made without naming it; other makers' servers are of this one or of any
ASIDE = "unused"
NEW = timedelta(hours=1)
"""Of what age an object is put as if it were not there; sweeps take none that is not far older."""
MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
TAKEN = frozenset({"412", "PreconditionFailed"})
BUSY = frozenset({"409", "ConditionalRequestConflict"})  # two writers met: ask again who won

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Where the bucket is and how it is spoken to.

    `public_endpoint`: what devices and browsers reach, if it is not what this process reaches. `region`: that of
    boto3's own configuration if none is said. `virtual`: the bucket is part of the host's name, not of the path.
    `encryption` (AES256 or aws:kms) is asked for with everything that is kept, with `kms_key` or the bucket's own key;
    what a device puts to a signed URL lies as the bucket itself would have it, until it is accepted.
    """

    bucket: str
    endpoint: str | None = None
    public_endpoint: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    prefix: str = ""
    virtual: bool = False
    encryption: str | None = None
    kms_key: str | None = None

    @property
    def kept(self) -> dict[str, str]:
        """Return what a request says that makes an object."""
        said = {"ServerSideEncryption": self.encryption, "SSEKMSKeyId": self.kms_key}
        return {name: value for name, value in said.items() if value}


class S3Store:
    """Objects in one bucket, under `prefix`."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._bucket = settings.bucket
        self._prefix = settings.prefix.strip("/") + "/" if settings.prefix.strip("/") else ""
        self._client = _client(settings, settings.endpoint)
        public = settings.public_endpoint or settings.endpoint
        self._signer = self._client if public == settings.endpoint else _client(settings, public)
        self._kept = settings.kept
        self._copies = S3Copies(self._client, self._bucket, self._kept)
        self._parts = S3Parts(self._client, self._signer, self._bucket, self._kept)

    async def start(self) -> None:
        await _call(self._make_bucket)

    def _make_bucket(self) -> None:
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except botocore.exceptions.ClientError as error:
            if _code(error) not in MISSING:
                raise
            region = self._client.meta.region_name
            elsewhere = self._settings.endpoint is None and region != FIRST_REGION
            place = {"CreateBucketConfiguration": {"LocationConstraint": region}} if elsewhere else {}
            self._client.create_bucket(Bucket=self._bucket, **place)

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)
        await asyncio.to_thread(self._signer.close)

    async def put_bytes(self, data: bytes, sha256: str | None = None) -> Stored:
        found = checked.stored(data, sha256 and check_digest(sha256), MAX_IN_MEMORY)
        if not await self._is_kept(found):
            put = partial(self._client.put_object, Bucket=self._bucket, Key=self._key(found.sha256), Body=data)
            await _call(partial(put, **self._kept))
        return found

    async def put_file(self, source: Source, sha256: str | None = None, *, max_size: int = MAX_OBJECT) -> Stored:
        wanted = sha256 and check_digest(sha256)
        if isinstance(source, Path):
            found = await asyncio.to_thread(checked.digest_file, source, max_size)
            return await self._upload(source, checked.expect(found, wanted))
        digest, size = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile() as spool:
            async for chunk in source:
                size = check_size(size + len(chunk), max_size)
                digest.update(chunk)
                await asyncio.to_thread(spool.write, chunk)
            spool.flush()
            return await self._upload(Path(spool.name), checked.expect(Stored(digest.hexdigest(), size), wanted))

    async def _upload(self, path: Path, found: Stored) -> Stored:
        if not await self._is_kept(found):
            put = partial(self._client.upload_file, str(path), self._bucket, self._key(found.sha256), Config=TRANSFER)
            await _call(partial(put, ExtraArgs=self._kept))
        return found

    async def open(self, sha256: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        key, start = self._key(sha256), max(start, 0)
        if start == 0 and stop is None:
            chunks = checked.checked(self._chunks(key, None), sha256)
        else:
            chunks = self._range(key, start, stop)
        async with aclosing(chunks) as out:
            async for chunk in out:
                yield chunk

    async def _range(self, key: str, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """Read a part; S3 answers an empty range with an error, so empty ones are not asked for."""
        size = await self._size(key)
        if size is None:
            raise ObjectMissingError(f"there is no object {key.rpartition('/')[2]}")
        end = size if stop is None else min(stop, size)
        if start >= end:
            return
        async with aclosing(self._chunks(key, f"bytes={start}-{end - 1}")) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _chunks(self, key: str, byte_range: str | None) -> AsyncGenerator[bytes, None]:
        extra = {} if byte_range is None else {"Range": byte_range}
        answer = await _call(partial(self._client.get_object, Bucket=self._bucket, Key=key, **extra))
        body = answer["Body"]
        try:
            while chunk := await _call(partial(body.read, CHUNK)):
                yield chunk
        finally:
            body.close()

    async def read(self, sha256: str, *, max_size: int = MAX_IN_MEMORY) -> bytes:
        return await checked.gather(self.open(sha256), max_size)

    async def stat(self, sha256: str) -> Stored | None:
        size = await self._size(self._key(sha256))
        return None if size is None else Stored(sha256, size)

    async def _size(self, key: str) -> int | None:
        head = await self._head(key)
        return None if head is None else int(head["ContentLength"])

    async def _head(self, key: str) -> dict[str, Any] | None:
        try:
            return await _call(partial(self._client.head_object, Bucket=self._bucket, Key=key))
        except ObjectMissingError:
            return None

    async def _is_kept(self, wanted: Stored) -> bool:
        """Say whether the object is there, new, and encrypted as it has to be; else it is made so where it lies.

        No sweep takes a new one away.
        """
        key = self._key(wanted.sha256)
        head = await self._head(key)
        if head is None or int(head["ContentLength"]) != wanted.size:
            return False
        if head["LastModified"] < clock.now() - NEW or not self._copies.is_as_asked(head):
            try:
                await _call(partial(self._copies.copy, key, key))
            except ObjectMissingError:
                return False
        return True

    async def exists(self, sha256: str) -> bool:
        return await self.stat(sha256) is not None

    async def delete(self, sha256: str) -> None:
        await _call(partial(self._client.delete_object, Bucket=self._bucket, Key=self._key(sha256)))

    async def upload_url(self, sha256: str, size: int, expires_s: int) -> str:
        wanted = {"Key": self._incoming(sha256), "ContentLength": check_size(size, MAX_OBJECT)}
        return await self._url("put_object", wanted, expires_s)

    async def accept(self, sha256: str, size: int) -> Stored:
        """Read what was put, and copy exactly those bytes (by ETag) to where objects are."""
        found, key = await self.stat(sha256), self._incoming(sha256)
        if found is not None and checked.expect_size(found, size) and await self._is_kept(found):
            return found
        etag = await _call(partial(self._digest, key, Stored(sha256, size)))
        await _call(partial(self._copies.copy, key, self._key(sha256), etag))
        await _call(partial(self._client.delete_object, Bucket=self._bucket, Key=key))
        return Stored(sha256, size)

    def _digest(self, key: str, wanted: Stored) -> str:
        answer = self._client.get_object(Bucket=self._bucket, Key=key)
        digest, size = hashlib.sha256(), 0
        with answer["Body"] as body:
            while size <= wanted.size and (chunk := body.read(CHUNK)):
                digest.update(chunk)
                size += len(chunk)
        if Stored(digest.hexdigest(), size) != wanted:
            raise CorruptObjectError(f"what was put for {wanted.sha256} is not the {wanted.size} bytes it names")
        return str(answer["ETag"])

    async def parts(self, sha256: str, layout: Layout) -> set[int]:
        return await _call(partial(self._parts.there, self._incoming(sha256), layout))

    async def part_urls(self, sha256: str, layout: Layout, numbers: Sequence[int], expires_s: int) -> list[str]:
        expires_s = min(max(expires_s, 1), LONGEST_S)
        return await _call(partial(self._parts.urls, self._incoming(sha256), layout, numbers, expires_s))

    async def join(self, sha256: str, layout: Layout) -> Stored:
        key = self._incoming(sha256)
        await _call(partial(self._parts.join, key, layout))
        try:
            return await self.accept(sha256, layout.size)
        except CorruptObjectError:
            await _call(partial(self._client.delete_object, Bucket=self._bucket, Key=key))
            raise

    async def download_url(self, sha256: str, expires_s: int) -> str:
        return await self._url("get_object", {"Key": self._key(sha256)}, expires_s)

    async def _url(self, operation: str, params: dict[str, Any], expires_s: int) -> str:
        sign = partial(
            self._signer.generate_presigned_url,
            operation,
            Params={"Bucket": self._bucket, **params},
            ExpiresIn=min(max(expires_s, 1), LONGEST_S),
        )
        return str(await asyncio.to_thread(sign))

    async def publish(self, name: str, data: bytes) -> bool:
        check_size(len(data), MAX_IN_MEMORY)
        put = partial(self._client.put_object, Bucket=self._bucket, Key=self._named(name), Body=data, IfNoneMatch="*")
        return await _call(partial(_first, partial(put, **self._kept)))

    async def read_name(self, name: str, *, max_size: int = MAX_IN_MEMORY) -> bytes | None:
        try:
            return await checked.gather(self._chunks(self._named(name), None), max_size)
        except ObjectMissingError:
            return None

    async def list_names(self, prefix: str = "") -> AsyncGenerator[str, None]:
        start = f"{self._prefix}names/"
        async with aclosing(self._list(start + prefix)) as found:
            async for entry in found:
                yield str(entry["Key"]).removeprefix(start)

    async def list_objects(self) -> AsyncGenerator[Listed, None]:
        async with aclosing(self._listed(f"{self._prefix}sha256/")) as found:
            async for each in found:
                yield each

    async def set_aside(self, sha256: str) -> None:
        await self._move(self._key(sha256), self._aside(sha256))

    async def list_aside(self) -> AsyncGenerator[Listed, None]:
        async with aclosing(self._listed(f"{self._prefix}{ASIDE}/sha256/")) as found:
            async for each in found:
                yield each

    async def bring_back(self, sha256: str) -> None:
        await self._move(self._aside(sha256), self._key(sha256))

    async def forget(self, sha256: str) -> None:
        await _call(partial(self._client.delete_object, Bucket=self._bucket, Key=self._aside(sha256)))

    async def _move(self, key: str, target: str) -> None:
        with suppress(ObjectMissingError):
            await _call(partial(self._copies.copy, key, target))
            await _call(partial(self._client.delete_object, Bucket=self._bucket, Key=key))

    async def _listed(self, prefix: str) -> AsyncGenerator[Listed, None]:
        async with aclosing(self._list(prefix)) as found:
            async for entry in found:
                yield Listed(entry["Key"].rpartition("/")[2], int(entry["Size"]), entry["LastModified"])

    async def _list(self, prefix: str) -> AsyncGenerator[dict[str, Any], None]:
        more: dict[str, str] = {}
        while True:
            page = await _call(partial(self._client.list_objects_v2, Bucket=self._bucket, Prefix=prefix, **more))
            for entry in page.get("Contents", []):
                yield entry
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _aside(self, sha256: str) -> str:
        return f"{self._prefix}{ASIDE}/{object_key(sha256)}"

    def _key(self, sha256: str) -> str:
        return self._prefix + object_key(sha256)

    def _incoming(self, sha256: str) -> str:
        return f"{self._prefix}incoming/{object_key(sha256)}"

    def _named(self, name: str) -> str:
        return f"{self._prefix}names/{check_name(name)}"


def _client(settings: S3Settings, endpoint: str | None) -> Any:
    session = boto3.session.Session(settings.access_key, settings.secret_key, region_name=settings.region)
    return session.client(
        "s3",
        region_name=session.region_name or FIRST_REGION,
        endpoint_url=endpoint,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "virtual" if settings.virtual else "path"},
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=32,
            request_checksum_calculation="when_required",  # older servers refuse what they do not know
            response_checksum_validation="when_required",
        ),
    )


async def _call(function: Callable[[], T]) -> T:
    return await asyncio.to_thread(_translated, function)


def _translated(function: Callable[[], T]) -> T:
    with _our_errors():
        return function()


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except botocore.exceptions.ClientError as error:
        if _code(error) in MISSING:
            raise ObjectMissingError("the object store holds nothing there") from error
        raise StoreUnavailableError(f"the object store refused: {error}") from error
    except (botocore.exceptions.BotoCoreError, boto3.exceptions.Boto3Error) as error:
        raise StoreUnavailableError(f"the object store cannot be reached: {error}") from error


def _first(put: Callable[[], object], tries: int = 5) -> bool:
    try:
        put()
    except botocore.exceptions.ClientError as error:
        if _code(error) in TAKEN:
            return False
        if _code(error) in BUSY and tries > 1:
            return _first(put, tries - 1)
        raise
    return True


def _code(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
