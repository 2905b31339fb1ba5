"""Reads what a bundle says of itself. It imports no numpy."""

from pathlib import Path

from agents.protocol.v1 import strict_json
from agents.protocol.v1.contract import CONTRACT_BYTES, Contract
from agents.sdk.files import read_bounded


class NotQualifiedError(Exception):
    """The bundle does not do what it says; the message says what."""


def read_contract(bundle: Path) -> Contract:
    """Return what the bundle says of itself; raise NotQualifiedError if it says nothing that can be understood."""
    path = bundle / "contract.json"
    data = read_bounded(path, CONTRACT_BYTES)
    if data is None:
        raise NotQualifiedError("contract.json cannot be read or is too large")
    try:
        return Contract.model_validate(strict_json(data, CONTRACT_BYTES))
    except ValueError as error:
        raise NotQualifiedError(f"contract.json: {str(error)[:200]}") from error
