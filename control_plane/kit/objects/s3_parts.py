"""Parts in S3: one multipart upload to the incoming place of an object, found again by its key."""

from collections.abc import Mapping, Sequence
from typing import Any

from control_plane.kit.objects.errors import ObjectMissingError
from control_plane.kit.objects.port import Layout


class S3Parts:
    """Blocking calls, as boto3's are; `signer` makes URLs that devices and browsers reach.

    `kept` is what the request says that begins an upload.
    """

    def __init__(self, client: Any, signer: Any, bucket: str, kept: Mapping[str, str]) -> None:
        self._kept = kept
        self._client = client
        self._signer = signer
        self._bucket = bucket

    def there(self, key: str, layout: Layout) -> set[int]:
        found = self._parts(key)
        return layout.whole((part["PartNumber"], part["Size"]) for part in found)

    def urls(self, key: str, layout: Layout, numbers: Sequence[int], expires_s: int) -> list[str]:
        place = {"Bucket": self._bucket, "Key": key, "UploadId": self._begun(key) or self._begin(key)}
        return [
            str(
                self._signer.generate_presigned_url(
                    "upload_part",
                    Params=place | {"PartNumber": number, "ContentLength": layout.size_of(number)},
                    ExpiresIn=expires_s,
                )
            )
            for number in numbers
        ]

    def join(self, key: str, layout: Layout) -> None:
        """Make them one object at the incoming place.

        Raises:
            ObjectMissingError: a part is not there.
        """
        tags = {part["PartNumber"]: part["ETag"] for part in self._parts(key)}
        if self.there(key, layout) != set(range(1, layout.count + 1)):
            raise ObjectMissingError("not all parts are there")
        self._client.complete_multipart_upload(
            Bucket=self._bucket,
            Key=key,
            UploadId=self._begun(key),
            MultipartUpload={
                "Parts": [{"PartNumber": number, "ETag": tags[number]} for number in range(1, layout.count + 1)]
            },
        )

    def _parts(self, key: str) -> list[dict[str, Any]]:
        upload = self._begun(key)
        if upload is None:
            return []
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=key, UploadId=upload)
        return [part for page in pages for part in page.get("Parts", [])]

    def _begun(self, key: str) -> str | None:
        """Return the oldest upload to this key, so that two clients that meet go on with the same one."""
        found = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=key).get("Uploads", [])
        mine = sorted((each["Initiated"], each["UploadId"]) for each in found if each["Key"] == key)
        return str(mine[0][1]) if mine else None

    def _begin(self, key: str) -> str:
        return str(self._client.create_multipart_upload(Bucket=self._bucket, Key=key, **self._kept)["UploadId"])
