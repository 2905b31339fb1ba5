"""`fleetloop reviews`, `tokens` and `audit`: who is asked, who may, and who did what."""

from typing import Annotated

import typer

from control_plane.access.schemas import TokenCreate
from control_plane.cli import completion
from control_plane.cli.answers import Answer, Change, Items, One
from control_plane.cli.approvals import find_review
from control_plane.cli.command import Noun, Verb
from control_plane.cli.connection import client
from control_plane.cli.nouns import views
from control_plane.cli.output import View
from control_plane.client import Calls, NotFound
from control_plane.kit.roles import Role
from control_plane.review.domain import ReviewState
from control_plane.review.schemas import ReviewAnswerCreate, ReviewItem

reviews = typer.Typer(cls=Noun, help="Reviews: questions put to people.")
tokens = typer.Typer(cls=Noun, help="API tokens: who may call, and as what.")
audit = typer.Typer(cls=Noun, help="The audit trail: who did what, and why.")
ReviewId = Annotated[str, typer.Argument(help="the review's id", autocompletion=completion.reviews)]
Name = Annotated[str, typer.Argument(help="who calls with it")]
RoleOption = Annotated[Role, typer.Option(help="what it may do")]


@Verb(reviews)("list", watched=True)
def list_reviews(
    state: Annotated[ReviewState, typer.Option(help="only in this state")] = ReviewState.OPEN,
    every: Annotated[bool, typer.Option("--all", help="in any state")] = False,
) -> Answer:
    """List questions waiting for people.

    For example: fleetloop reviews list --all
    """
    return Items(client("viewer").list_reviews(state=None if every else state.value), views.REVIEW)


@Verb(reviews)("get", watched=True)
def get_review(review_id: ReviewId) -> Answer:
    """Show one question with its evidence and answers.

    For example: fleetloop reviews get rev_01 -o yaml
    """
    return One(client("viewer").get_review(review_id), views.REVIEW)


def answer_review(
    review: Annotated[str, typer.Argument(help="a review's id, or the release or rollout it is about")],
    reason: Annotated[str, typer.Option(help="why; it goes to the audit trail")] = "",
    reject: Annotated[bool, typer.Option("--reject", help="say no instead")] = False,
) -> Answer:
    """Answer a question put to people, such as that of a rollout that cannot decide. To sign a release: approve.

    For example: fleetloop reviews answer rev_01 --reason "looked at all three events"
    """
    found = find_review(client("approver"), review)
    if found is None:
        raise NotFound(404, "not_found", f"no open review is about {review}")
    ask = Calls.answer_review.ask(found.id, ReviewAnswerCreate(approves=not reject, reason=reason))
    return Change("approver", [ask], views.REVIEW, status=lambda item: _answered(item, reject=reject))


def _answered(item: ReviewItem, *, reject: bool) -> int:
    return 0 if item.state in (ReviewState.APPROVED, ReviewState.OPEN) or reject else 1


Verb(reviews)("answer", changes=True)(answer_review)


@Verb(tokens)("list")
def list_tokens() -> Answer:
    """List who has an API token, without the tokens.

    For example: fleetloop tokens list
    """
    return Items(client("admin").list_tokens(), views.TOKEN)


@Verb(tokens)("create", changes=True)
def create_token(name: Name, role: RoleOption = Role.VIEWER) -> Answer:
    """Make an API token with a role; it is shown this once.

    For example: fleetloop tokens create ada --role approver
    """
    return Change("admin", [Calls.create_token.ask(TokenCreate(name=name, role=role))], views.TOKEN_MADE)


@Verb(tokens)("revoke", changes=True)
def revoke_token(name: Name) -> Answer:
    """Revoke a name's token at once.

    For example: fleetloop tokens revoke ada
    """
    return Change("admin", [Calls.revoke_token.ask(name)], views.TOKEN, f"the token of {name} is revoked")


def token(
    name: Name,
    role: RoleOption = Role.VIEWER,
    revoke: Annotated[bool, typer.Option("--revoke", help="revoke this name's token instead")] = False,
) -> Answer:
    """Make an API token with a role, or revoke one.

    For example: fleetloop token ada --role approver
    """
    return revoke_token(name) if revoke else create_token(name, role)


@Verb(audit)("list", watched=True)
def list_audit(
    subject: Annotated[str | None, typer.Option(help="only about this")] = None,
    check: Annotated[bool, typer.Option("--check", help="the same as: audit check", hidden=True)] = False,
) -> Answer:
    """List who did what and why, newest first.

    For example: fleetloop audit list --subject roll_01
    """
    return check_audit() if check else Items(client("viewer").list_audit(subject=subject), views.AUDIT)


@Verb(audit)("check")
def check_audit() -> Answer:
    """Walk the chain of the audit trail and say whether it is intact; exit 1 if it is not.

    For example: fleetloop audit check
    """
    found = client("viewer").check_audit()
    return One(found, View("entries", ()), status=0 if found.intact else 1)
