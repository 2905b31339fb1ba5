"""Content and release manifests: canonical bytes whose sha256 is the name of the thing."""

from collections.abc import Mapping, Sequence

from agents.protocol.v1 import BundleFile, ContentManifest, FileRole, ReleaseManifest, canonical_json, digest_of

MEDIA_TYPES: Mapping[str, tuple[str, FileRole]] = {
    "model.onnx": ("application/vnd.onnx", FileRole.MODEL),
    "contract.json": ("application/json", FileRole.CONTRACT),
    "golden.safetensors": ("application/vnd.safetensors", FileRole.GOLDEN),
}
"""The files of a bundle. Nothing else is taken: no archive, no pickle, no code."""


def content_manifest(model: str, files: Mapping[str, tuple[str, int]]) -> tuple[ContentManifest, str]:
    """Return the manifest of {path: (sha256, size_bytes)} and its content digest."""
    entries = tuple(
        BundleFile(
            path=path, sha256=sha256, size_bytes=size_bytes, media_type=MEDIA_TYPES[path][0], role=MEDIA_TYPES[path][1]
        )
        for path, (sha256, size_bytes) in sorted(files.items())
    )
    manifest = ContentManifest(model=model, files=entries)
    return manifest, digest_of(manifest.model_dump(mode="json", by_alias=True))


def release_manifest(
    content: ContentManifest, content_digest: str, version: int, counter: int, device_classes: Sequence[str]
) -> bytes:
    """Return the bytes of a release; whoever gets them checks them by their sha256."""
    release = ReleaseManifest(
        model=content.model,
        version=version,
        counter=counter,
        device_classes=tuple(sorted(device_classes)),
        content_digest=content_digest,
        content=content,
    )
    return canonical_json(release.model_dump(mode="json", by_alias=True))
