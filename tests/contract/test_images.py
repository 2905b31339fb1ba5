"""What goes into an image: pins with hashes, a bill of materials of exactly them, a wheel that comes out the same."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "infra" / "images"
DOCKERFILES = sorted(IMAGES.glob("*.Dockerfile"))
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^ ;]+) \\$", re.MULTILINE)
LOCK = {
    canonicalize_name(name): version
    for name, version in (line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines())
}


def pins(name: str) -> dict[str, str]:
    text = (IMAGES / "requirements" / f"{name}.txt").read_text()
    found = {canonicalize_name(package): version for package, version in PIN.findall(text)}
    assert len(found) == text.count("==") > 0, "every line is a pin of one version, without a marker"
    return found


@pytest.mark.parametrize("name", ["server", "agent", "build"])
def test_images_install_what_is_locked_and_every_file_has_its_hash(name: str) -> None:
    found = pins(name)
    assert found == {package: LOCK[package] for package in found}
    for pin in re.split(r"\n(?=\S)", (IMAGES / "requirements" / f"{name}.txt").read_text().strip()):
        assert "--hash=sha256:" in pin, pin


def test_the_agents_image_has_nothing_of_the_server() -> None:
    assert not {"fastapi", "sqlalchemy", "prefect", "boto3", "asyncpg"} & set(pins("agent"))


def test_the_bill_of_materials_is_what_is_pinned_and_always_the_same(tmp_path: Path) -> None:
    made = [bill(tmp_path / f"{number}.json") for number in range(2)]
    assert made[0] == made[1]
    components = json.loads(made[0])["components"]
    assert {canonicalize_name(item["name"]): item["version"] for item in components} == pins("server")
    assert len(components) == len(pins("server"))


def bill(path: Path) -> bytes:
    command = next(line for line in recipe("sbom") if "cyclonedx-py" in line)
    words = command.removeprefix("PYTHONWARNINGS=ignore ").replace("dist/fleetloop-server.cdx.json", str(path)).split()
    program = Path(sys.executable).with_name(Path(words[0]).name)
    subprocess.run(
        [program, *words[1:]], cwd=ROOT, check=True, timeout=60, env=os.environ | {"PYTHONWARNINGS": "ignore"}
    )
    return path.read_bytes()


def recipe(target: str) -> list[str]:
    """Return the commands of one of the Makefile's targets."""
    body = (ROOT / "Makefile").read_text().split(f"\n{target}: ", 1)[1].split("\n\n")[0].replace("\\\n", " ")
    return [line.strip().lstrip("@") for line in body.splitlines()[1:]]


def test_two_builds_of_the_wheel_are_one(tmp_path: Path) -> None:
    assert wheel(tmp_path / "one") == wheel(tmp_path / "two")


def wheel(folder: Path) -> str:
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", str(folder)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1767225600"}
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True, timeout=100, env=environment
    )
    [made] = folder.glob("fleetloop-*.whl")
    return hashlib.sha256(made.read_bytes()).hexdigest()


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_what_hadolint_does_not_ask_of_a_dockerfile(path: Path) -> None:
    """The rest is `make images`: pinned tags, no ADD of a URL, lists of packages removed, no root at the end."""
    text = path.read_text()
    arguments = dict(re.findall(r"^ARG (DEBIAN|PYTHON)=(\S+)$", text, re.MULTILINE))
    assert len(arguments) == 1
    for base in arguments.values():
        assert re.fullmatch(r"(debian|python):[\w.-]*\d{2,}[\w.-]*", base), "a base that a later day does not change"
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE)[-1] == "10001:10001"
    assert text.count("HEALTHCHECK ") == 1
    assert "org.opencontainers.image.licenses=" in text
    assert not re.search(r"^(ARG|ENV) .*(PASSWORD|SECRET|TOKEN|_KEY)\b", text, re.MULTILINE)
    last = text.rsplit("\nFROM ", 1)[1]
    assert not re.search(r"\b(gcc|g\+\+|make|build-essential|git|python3-dev)\b", last)
    assert len(re.findall("apt-get update", text)) == text.count("rm -rf /var/lib/apt/lists/*")


def test_hadolint_finds_what_it_should(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian:latest\nADD https://example.com/x /x\nUSER root\n")
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, bad], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    for rule in ("DL3007", "DL3002"):
        assert rule in done.stdout
