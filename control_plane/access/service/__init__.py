"""Tokens, people, sessions, and a provider's word."""

from control_plane.access.service.attempts import may_try, succeeded
from control_plane.access.service.oidc import Provider, ProviderSettings, Refusal
from control_plane.access.service.passwords import Passwords
from control_plane.access.service.people import (
    WrongPassword,
    change_own_password,
    create_person,
    get_person,
    list_people,
    patch_person,
    sign_in,
    vouched,
)
from control_plane.access.service.sessions import begin, end, entered
from control_plane.access.service.tokens import create_token, list_tokens, revoke_token

__all__ = [
    "Passwords",
    "Provider",
    "ProviderSettings",
    "Refusal",
    "WrongPassword",
    "begin",
    "change_own_password",
    "create_person",
    "create_token",
    "end",
    "entered",
    "get_person",
    "list_people",
    "list_tokens",
    "may_try",
    "patch_person",
    "revoke_token",
    "sign_in",
    "succeeded",
    "vouched",
]
