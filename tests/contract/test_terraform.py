"""The Terraform module: Terraform itself reads it and plans it, against the AWS provider's schema and a made-up AWS.

The provider is a stand-in that knows the real one's schema (tests/support/stand_in_provider.py): names, types, blocks
and references are checked, and what the module promises; not what only AWS or its provider would refuse.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.aws_schema import AWS, SCHEMA, used
from tests.support.chart_settings import CHART

TERRAFORM = shutil.which("terraform")
pytestmark = pytest.mark.skipif(TERRAFORM is None, reason="there is no terraform on this machine")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def module(tmp_path: Path) -> Path:
    to = tmp_path / "infra" / "terraform" / "aws"
    shutil.copytree(AWS, to, ignore=shutil.ignore_patterns(".terraform*"))
    shutil.copytree(CHART / "ci", tmp_path / "infra" / "helm" / "fleetloop" / "ci")
    return to


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    pytest.importorskip("grpc", reason="grpcio is not installed: no provider can be stood in for")
    program = tmp_path / "providers" / "terraform-provider-aws"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m tests.support.stand_in_provider\n")
    program.chmod(0o755)
    settings = tmp_path / "terraform.rc"
    settings.write_text(f'provider_installation {{\n  dev_overrides {{ "hashicorp/aws" = "{program.parent}" }}\n}}\n')
    return os.environ | {
        "TF_CLI_CONFIG_FILE": str(settings),
        "TF_DATA_DIR": str(tmp_path / "data"),
        "TF_DISABLE_PLUGIN_TLS": "1",
        "CHECKPOINT_DISABLE": "1",
    }


def terraform(module: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    assert TERRAFORM is not None
    return subprocess.run(
        [TERRAFORM, *words], cwd=module, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def test_it_is_written_as_terraform_writes() -> None:
    done = terraform(AWS, os.environ | {"TF_CLI_CONFIG_FILE": os.devnull}, "fmt", "-check", "-recursive", "-diff")
    assert (done.returncode, done.stdout) == (0, "")


def test_terraform_finds_it_valid(module: Path, environment: dict[str, str]) -> None:
    done = terraform(module, environment, "validate", "-json")
    found = json.loads(done.stdout)
    assert found["valid"], found["diagnostics"]


@pytest.mark.parametrize(
    ("there", "instead", "said"),
    [
        ("storage_encrypted ", "storage_encrypt ", "Unsupported argument"),
        ("  role_arn                  = aws_iam_role.cluster.arn\n", "", "Missing required argument"),
        ("aws_kms_key.data.arn", "aws_kms_key.data.arm", "Unsupported attribute"),
        ("abort_incomplete_multipart_upload {", "abort_multipart_upload {", "Unsupported block type"),
        ("aws_db_instance.this.address", "aws_db_instance.that.address", "Reference to undeclared resource"),
        ("http_put_response_hop_limit = 1", 'http_put_response_hop_limit = "one"', "Incorrect attribute value type"),
    ],
)
def test_a_slip_is_found(module: Path, environment: dict[str, str], there: str, instead: str, said: str) -> None:
    """The stand-in is worth something only if it tells right from wrong."""
    changed = 0
    for path in module.glob("*.tf"):
        text = path.read_text()
        changed += there in text
        path.write_text(text.replace(there, instead))
    assert changed
    done = terraform(module, environment, "validate", "-json")
    assert said in [each["summary"] for each in json.loads(done.stdout)["diagnostics"]]


def test_plans_keep_what_is_promised(module: Path, environment: dict[str, str]) -> None:
    done = terraform(module, environment, "test", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr
    runs = len(re.findall(r"^run ", (AWS / "tests" / "plan.tftest.hcl").read_text(), re.MULTILINE))
    assert f"Success! {runs} passed, 0 failed" in done.stdout


def test_the_schema_is_of_the_version_that_is_asked_for() -> None:
    (wanted,) = re.findall(r'version = "~> (\d+\.\d+)\.\d+"', (AWS / "versions.tf").read_text())
    held = json.loads(SCHEMA.read_text())
    assert f"(hashicorp/aws {wanted}." in held["source"]
    assert (set(held["resource_schemas"]), set(held["data_source_schemas"])) == used()
