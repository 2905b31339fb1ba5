"""What a bundle must be (`bundle`), and the manifests that name it (`manifests`)."""

from control_plane.registry.domain.attestations import Terms, approval_statement, training_provenance
from control_plane.registry.domain.bundle import BundleError, check_bundle
from control_plane.registry.domain.chain import Chain, ChainError, Files
from control_plane.registry.domain.chain import verify as verify_chain
from control_plane.registry.domain.manifests import MEDIA_TYPES, content_manifest, release_manifest

__all__ = [
    "MEDIA_TYPES",
    "BundleError",
    "Chain",
    "ChainError",
    "Files",
    "Terms",
    "approval_statement",
    "check_bundle",
    "content_manifest",
    "release_manifest",
    "training_provenance",
    "verify_chain",
]
