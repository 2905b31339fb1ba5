"""Sizes, names and silenced checks, over every file that git knows."""

import ast
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 600
MAX_FUNCTION_LINES = 40
TEXTS = (".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".lock", ".html", ".js", ".json", "Makefile")
MIGRATIONS = "control_plane/migrations/versions/"


def tracked(*endings: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    found = [ROOT / name for name in listed.split("\0") if name.endswith(endings)]
    return [path for path in found if path.exists()]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count from the first statement after the docstring; a long signature or docstring is not long code."""
    body = node.body
    documented = len(body) > 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    first = body[1] if documented else body[0]
    return (node.end_lineno or 0) - first.lineno + 1


def test_no_file_is_longer_than_600_lines() -> None:
    sizes = {
        path: len(path.read_text().splitlines())
        for path in tracked(".py", ".html", ".js", ".css")
        if MIGRATIONS not in path.as_posix()
    }
    assert {str(path): size for path, size in sizes.items() if size > MAX_LINES} == {}


@pytest.mark.parametrize("package", ["control_plane", "flows", "agents"])
def test_no_function_is_longer_than_40_lines(package: str) -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {body_lines(node)}"
        for path in tracked(".py")
        if path.relative_to(ROOT).parts[0] == package and MIGRATIONS not in path.as_posix()
        for node in functions(ast.parse(path.read_text()))
        if body_lines(node) > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_every_silenced_check_gives_its_reason() -> None:
    silent = re.compile(r"#\s*(noqa|type:\s*ignore|pragma)(?P<rest>.*)$")
    bare = []
    for path in tracked(".py"):
        if path == Path(__file__) or MIGRATIONS in path.as_posix():
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = silent.search(line)
            if found and found["rest"] and not re.search(r"\s[-#]\s+\S", found["rest"]) and "tests/" not in str(path):
                bare.append(f"{path.relative_to(ROOT)}:{number}")
    assert bare == []


def test_nothing_names_a_machine_or_a_registry_host() -> None:
    words = ("/ro" + "ot/", "/wo" + "rk/", "py" + "pi.org", "files.python" + "hosted", "registry.npm" + "js")
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked(*TEXTS)
        for word in words
        if word in path.read_text(errors="replace")
    ]
    assert found == []


def test_no_installed_distribution_brings_a_package_of_our_names() -> None:
    for name in ("agents", "flows", "control_plane"):
        assert set(packages_distributions().get(name, ["fleetloop"])) == {"fleetloop"}
