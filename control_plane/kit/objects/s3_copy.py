"""Copies within a bucket, by the server where it can; an object that has to be encrypted is checked to be."""

from collections.abc import Mapping
from typing import Any

import botocore.exceptions
from boto3.s3.transfer import TransferConfig

PART = 16 * 1024**2
TRANSFER = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)
REFUSED = frozenset({"NotImplemented", "501"})


class S3Copies:
    """Blocking calls, as boto3's are; `kept` is what a request says that makes an object."""

    def __init__(self, client: Any, bucket: str, kept: Mapping[str, str]) -> None:
        self._client = client
        self._bucket = bucket
        self._kept = kept
        self._server_does = True

    def copy(self, key: str, target: str, etag: str | None = None) -> None:
        """Copy exactly the object of this ETag; an object that is copied to itself becomes new.

        Not every server copies what is encrypted (Ceph refuses), or encrypts what it copies (Ceph does not, and says
        nothing): then the bytes come here and go back, from then on at once.
        """
        if self._server_does:
            self._server_does = self._by_server(key, target, etag)
        if not self._server_does:
            self._by_hand(key, target, etag)

    def is_as_asked(self, head: Mapping[str, Any]) -> bool:
        """Say whether an object is encrypted, if it has to be."""
        wanted = self._kept.get("ServerSideEncryption")
        return wanted is None or head.get("ServerSideEncryption") == wanted

    def _by_server(self, key: str, target: str, etag: str | None) -> bool:
        said = dict(self._kept)
        if etag is not None:
            said["CopySourceIfMatch"] = etag
        if key == target:
            said["MetadataDirective"] = "REPLACE"
        source = {"Bucket": self._bucket, "Key": key}
        try:
            self._client.copy(source, self._bucket, target, ExtraArgs=said, Config=TRANSFER)
        except botocore.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") in REFUSED:
                return False
            raise
        return not self._kept or self.is_as_asked(self._client.head_object(Bucket=self._bucket, Key=target))

    def _by_hand(self, key: str, target: str, etag: str | None) -> None:
        same = {} if etag is None else {"IfMatch": etag}
        with self._client.get_object(Bucket=self._bucket, Key=key, **same)["Body"] as body:
            self._client.upload_fileobj(body, self._bucket, target, ExtraArgs=dict(self._kept), Config=TRANSFER)
