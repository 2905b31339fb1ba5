"""Models, versions, releases and trust."""

from control_plane.client.ask import Ask, Call, create, get, post, put, segment
from control_plane.registry.schemas import (
    AttestationCreate,
    AttestationItem,
    ModelItem,
    ModelPut,
    ReleaseCreate,
    ReleaseItem,
    RevocationCreate,
    RevocationItem,
    TrustItem,
    VersionCreate,
    VersionItem,
)


class RegistryCalls:
    @Call
    def put_model(self, name: str, body: ModelPut) -> Ask[ModelItem]:
        """Make or change a model."""
        return put(ModelItem, f"/models/{segment(name)}", body)

    @Call
    def get_model(self, name: str) -> Ask[ModelItem]:
        """Return one model."""
        return get(ModelItem, f"/models/{segment(name)}")

    @Call
    def list_models(self) -> Ask[list[ModelItem]]:
        """List all models."""
        return get(list[ModelItem], "/models")

    @Call
    def register_version(self, model: str, body: VersionCreate) -> Ask[VersionItem]:
        """Register a version from files in the object store."""
        return create(VersionItem, f"/models/{segment(model)}/versions", body)

    @Call
    def get_version(self, content_digest: str) -> Ask[VersionItem]:
        """Return one version by its content digest."""
        return get(VersionItem, f"/versions/{segment(content_digest)}")

    @Call
    def list_versions(self, model: str) -> Ask[list[VersionItem]]:
        """List the versions of a model."""
        return get(list[VersionItem], f"/models/{segment(model)}/versions")

    @Call
    def create_release(self, body: ReleaseCreate, key: str | None = None) -> Ask[ReleaseItem]:
        """Make a release of a content for device classes."""
        return create(ReleaseItem, "/releases", body, key)

    @Call
    def get_release(self, digest: str) -> Ask[ReleaseItem]:
        """Return one release."""
        return get(ReleaseItem, f"/releases/{segment(digest)}")

    @Call
    def get_release_manifest(self, digest: str) -> Ask[bytes]:
        """Return the exact bytes whose sha256 is the release's digest; check that before believing them."""
        return get(bytes, f"/releases/{segment(digest)}/manifest")

    @Call
    def list_releases(self, model: str | None = None) -> Ask[list[ReleaseItem]]:
        """List releases, of one model or all."""
        return get(list[ReleaseItem], "/releases", model=model)

    @Call
    def add_attestation(self, body: AttestationCreate) -> Ask[AttestationItem]:
        """Hand in something signed."""
        return post(AttestationItem, "/attestations", body)

    @Call
    def list_attestations(self, digest: str) -> Ask[list[AttestationItem]]:
        """List what was signed about a content or release."""
        return get(list[AttestationItem], f"/attestations/{segment(digest)}")

    @Call
    def revoke(self, body: RevocationCreate) -> Ask[RevocationItem]:
        """Withdraw contents, releases or keys from the whole fleet."""
        return create(RevocationItem, "/trust/revocations", body)

    @Call
    def get_trust(self) -> Ask[TrustItem]:
        """Return the state of the TUF repository."""
        return get(TrustItem, "/trust")
