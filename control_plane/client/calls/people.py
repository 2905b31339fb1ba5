"""Reviews, lineage, the audit trail, tokens and people."""

from collections.abc import Collection
from typing import Any

from control_plane.access.schemas import (
    Caller,
    PersonCreate,
    PersonItem,
    PersonPatch,
    TokenCreate,
    TokenItem,
    TokenMade,
)
from control_plane.audit.schemas import AuditCheck, AuditItem
from control_plane.client.ask import Ask, Call, Pages, Walk, create, get, post, segment
from control_plane.exports.domain import Format
from control_plane.lineage.domain import Kind
from control_plane.lineage.schemas import Direction, LineageGraph
from control_plane.review.schemas import ReviewAnswerCreate, ReviewItem


class PeopleCalls:
    @Walk
    def list_reviews(self, /, **query: Any) -> Pages[ReviewItem]:
        """Walk questions to people; `state=`."""
        return Pages(ReviewItem, "/reviews", query)

    @Call
    def get_review(self, review_id: str) -> Ask[ReviewItem]:
        """Return one question with its answers."""
        return get(ReviewItem, f"/reviews/{segment(review_id)}")

    @Call
    def answer_review(self, review_id: str, body: ReviewAnswerCreate) -> Ask[ReviewItem]:
        """Answer a question put to people."""
        return create(ReviewItem, f"/reviews/{segment(review_id)}/answers", body)

    @Call
    def lineage(
        self,
        kind: str,
        name: str,
        direction: Direction = "up",
        depth: int = 20,
        kinds: Collection[Kind] | None = None,
    ) -> Ask[LineageGraph]:
        """Walk what was made from what; with `kinds`, only those nodes, joined where others stood between."""
        path, only = f"/lineage/{segment(kind)}/{segment(name)}", [*kinds] if kinds else None
        return Ask(LineageGraph, "GET", path, query={"direction": direction, "depth": depth, "kind": only})

    @Call
    def export_lineage(self, kind: str, name: str, form: Format = Format.OPENLINEAGE, depth: int = 20) -> Ask[bytes]:
        """Return lineage as a document: OpenLineage run events, an in-toto statement, or a CycloneDX bill."""
        path = f"/lineage/{segment(kind)}/{segment(name)}/export"
        return get(bytes, path, format=form.value, depth=depth)

    @Walk
    def list_audit(self, /, **query: Any) -> Pages[AuditItem]:
        """Walk the audit trail, newest first; `subject=`."""
        return Pages(AuditItem, "/audit", query)

    @Call
    def check_audit(self) -> Ask[AuditCheck]:
        """Walk the chain of the audit trail."""
        return get(AuditCheck, "/audit/check")

    @Call
    def create_token(self, body: TokenCreate) -> Ask[TokenMade]:
        """Make an API token; it is shown this once."""
        return post(TokenMade, "/tokens", body)

    @Call
    def list_tokens(self) -> Ask[list[TokenItem]]:
        """List who has a token, without the tokens."""
        return get(list[TokenItem], "/tokens")

    @Call
    def revoke_token(self, name: str) -> Ask[TokenItem]:
        """Revoke a name's token."""
        return Ask(TokenItem, "DELETE", f"/tokens/{segment(name)}")

    @Call
    def whoami(self) -> Ask[Caller]:
        """Return who this client calls as, and what they may do."""
        return get(Caller, "/whoami")

    @Call
    def create_person(self, body: PersonCreate) -> Ask[PersonItem]:
        """Let a person sign in to the pages with a password."""
        return post(PersonItem, "/people", body)

    @Call
    def list_people(self) -> Ask[list[PersonItem]]:
        """List who may sign in to the pages."""
        return get(list[PersonItem], "/people")

    @Call
    def patch_person(self, name: str, body: PersonPatch) -> Ask[PersonItem]:
        """Change a person's role, password or access."""
        return Ask(PersonItem, "PATCH", f"/people/{segment(name)}", body)
