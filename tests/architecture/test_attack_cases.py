"""The table of attack cases is whole and true, and what some of them forbid is nowhere in the code."""

import re
import tomllib
from typing import Any

import typer
from packaging.requirements import Requirement
from packaging.version import Version

from control_plane.cli.keys import keys
from tests.database.test_attacks_key_loss import LOST
from tests.proofs.device_attacks import ROOT, TABLE, cases, homes

_BACKTICKS = re.compile(r"`(tests/[a-z_/]+\.py)`")


def test_every_case_of_the_attack_list_stands_in_the_table() -> None:
    assert sorted(int(case[1:]) for case in cases()) == list(range(1, 103))


def test_every_case_names_tests_that_exist_or_says_why_it_is_left() -> None:
    where, rows = homes(), TABLE.read_text().splitlines()
    for case, tests in cases().items():
        row = next(line for line in rows if line.startswith(f"| {case} |"))
        missing = [name for name in tests if name not in where]
        assert not missing, (case, missing)
        proofs = _BACKTICKS.findall(row)
        assert all((ROOT / path).exists() for path in proofs), row
        assert tests or proofs or "| left: " in row, f"{case} names nothing"


def test_c38_nobody_opens_archives() -> None:
    """Bundles are manifests and blobs; a library that unpacks is not even imported."""
    libraries = r"^\s*(import|from) (tarfile|zipfile|py7zr|rarfile|pickle|dill|cloudpickle)\b"
    opens = re.compile(rf"{libraries}|unpack_archive", re.MULTILINE)
    for package in ("agents", "control_plane"):
        found = [str(path) for path in (ROOT / package).rglob("*.py") if opens.search(path.read_text())]
        assert not found


def test_j100_dependencies_are_above_what_is_known_to_be_broken() -> None:
    least = {"urllib3": "2.7", "onnx": "1.21", "tuf": "7.0.1"}
    plain = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = {each.name: each for each in map(Requirement, _all(plain))}
    locked = dict(re.findall(r"^([a-z0-9_.-]+)==([^ ;\n]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for name, version in least.items():
        assert Version(locked[name]) >= Version(version), name
        lower = [Version(each.version) for each in stated[name].specifier if each.operator in {">=", "=="}]
        assert lower, name
        assert max(lower) >= Version(version), name


def _all(plain: dict[str, Any]) -> list[str]:
    extras: dict[str, list[str]] = plain.get("optional-dependencies", {})
    return [*plain.get("dependencies", ()), *(each for extra in extras.values() for each in extra)]


def test_the_runbook_says_what_the_drill_does_with_commands_that_exist() -> None:
    drill = (ROOT / "docs" / "runbooks" / "key-loss.md").read_text()
    rotated = re.search(r"for role in ([a-z ]+); do", drill)
    assert rotated is not None
    assert tuple(rotated[1].split()) == LOST
    texts = drill + (ROOT / "docs" / "explanation" / "trust.md").read_text()
    used = set(re.findall(r"fleetloop keys (ceremony [a-z-]+|[a-z-]+)", texts))
    assert len(used) > 6
    assert used <= set(_commands(keys)), used - set(_commands(keys))


def _commands(group: typer.Typer) -> list[str]:
    own = [each.name or "" for each in group.registered_commands]
    nested = [(each.typer_instance, each.name) for each in group.registered_groups]
    return own + [f"{name} {inner}" for app, name in nested if app is not None for inner in _commands(app)]
