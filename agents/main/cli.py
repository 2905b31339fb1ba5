"""The command line of the agent: enrol, run, host, doctor."""

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from agents.link import Enrolment, Identity, LinkError, enrol, new_http
from agents.link.identity import AGENT_VERSION
from agents.main.agent import LockedError
from agents.main.doctor import examine
from agents.main.host import run_host, run_one
from agents.sdk.layout import StateDir

_EXAMPLES: Final = """examples:
  python -m agents.main enrol --server https://fleet.example --token TOKEN --state-dir /var/lib/fleetloop \\
      --serial 1424 --device-class orin-nx-16 --site hall --label line=3
  python -m agents.main run --state-dir /var/lib/fleetloop
  python -m agents.main host --root ./devices --max-agents 64
  python -m agents.main doctor --state-dir /var/lib/fleetloop
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0 done, 1 failed, 2 used wrongly."""
    options = _parser().parse_args(arguments)
    _log_to_stderr(as_json=options.json)
    try:
        return int(options.command(options))
    except (LinkError, LockedError, FileNotFoundError) as error:
        return _complain(str(error), options)
    except (ValidationError, ValueError) as error:
        return _complain(f"not valid: {error}", options)


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m agents.main", description="The fleetloop device agent.", epilog=_EXAMPLES, formatter_class=shape
    )
    parser.add_argument("--version", action="version", version=AGENT_VERSION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    enrolling = _command(commands, "enrol", _enrol, "make this device's key and enrol it with a single-use token")
    for name, words in (
        ("server", "address of the control plane"), ("token", "the enrolment token, used up by this"),
        ("serial", "serial number of the hardware"), ("device-class", "hardware and power mode, e.g. orin-nx-16"),
        ("site", "where the device stands"),
    ):  # fmt: skip
        enrolling.add_argument(f"--{name}", required=True, help=words)
    enrolling.add_argument("--ca-sha256", help="fingerprint of the server's device authority, given with the token")
    enrolling.add_argument("--label", action="append", default=[], metavar="K=V", help="may be given many times")
    running = _command(commands, "run", _run, "run the agent of one device")
    doctor = _command(commands, "doctor", _doctor, "say what state a device is in and what it waits for, as JSON")
    for each in (enrolling, running, doctor):
        each.add_argument("--state-dir", required=True, type=Path, help="what agent and robot application share")
    hosting = _command(commands, "host", _host, "run an agent for every state directory below a root")
    hosting.add_argument("--root", required=True, type=Path, help="holds one state directory per device")
    hosting.add_argument("--max-agents", type=int, default=256, help="others wait (default: %(default)s)")
    return parser


def _command(commands: Any, name: str, work: Any, words: str) -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=words, description=words, epilog=_EXAMPLES, formatter_class=shape
    )
    parser.add_argument("--json", action="store_true", help="results and log lines as JSON")
    parser.set_defaults(command=work)
    return parser


def _enrol(options: argparse.Namespace) -> int:
    state = StateDir(options.state_dir)
    known = Identity.load(state)
    if known is not None:
        return _complain(f"{state.root} is enrolled already, as {known.device_id}", options)
    wish = Enrolment(
        server=options.server,
        token=SecretStr(options.token),
        serial=options.serial,
        device_class=options.device_class,
        site=options.site,
        labels=_labels(options.label),
        ca_sha256=options.ca_sha256,
    )
    identity = asyncio.run(_enrolled(state, wish))
    text = {"device_id": identity.device_id, "state_dir": str(state.root)}
    _print(json.dumps(text) if options.json else f"enrolled as {identity.device_id}")
    return 0


async def _enrolled(state: StateDir, wish: Enrolment) -> Identity:
    state.root.mkdir(parents=True, exist_ok=True)
    async with new_http() as http:
        return await enrol(http, state, wish)


def _run(options: argparse.Namespace) -> int:
    state = StateDir(options.state_dir)
    if Identity.load(state) is None:
        return _complain(f"{state.root} is not enrolled; see `python -m agents.main enrol --help`", options)
    return asyncio.run(_until_told(run_one(state)))


def _host(options: argparse.Namespace) -> int:
    return asyncio.run(_until_told(run_host(options.root, options.max_agents)))


def _doctor(options: argparse.Namespace) -> int:
    _print(json.dumps(examine(StateDir(options.state_dir)), indent=2, default=str))
    return 0


async def _until_told(work: Coroutine[Any, Any, None]) -> int:
    """Run until SIGTERM or SIGINT, then end in order."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return 0
    return 1


def _labels(pairs: Sequence[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    wrong = [name for name, sign, _ in split if not (name and sign)]
    if wrong:
        raise ValueError(f"--label wants K=V, not {wrong[0]!r}")
    return {name: value for name, _, value in split}


def _complain(message: str, options: argparse.Namespace) -> int:
    line = json.dumps({"error": message}) if options.json else f"error: {message}"
    sys.stderr.write(line + "\n")
    return 1


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"at": record.created, "level": record.levelname.lower(), "message": record.getMessage()})


def _log_to_stderr(*, as_json: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
