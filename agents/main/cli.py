"""The command line of the agent: enrol, run, host, and what it tells a person: status, doctor, explain, slots."""

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
from agents.main.explain import explain
from agents.main.host import run_host, run_one
from agents.main.notify import watched
from agents.main.slots import slots
from agents.main.status import screen, status
from agents.sdk.layout import StateDir

_EXAMPLES: Final = """examples:
  fleetloop-agent enrol --server https://fleet.example --token TOKEN --state-dir /var/lib/fleetloop \\
      --serial 1424 --device-class orin-nx-16 --site hall --label line=3
  fleetloop-agent run --state-dir /var/lib/fleetloop
  fleetloop-agent host --root ./devices --max-agents 64
  fleetloop-agent status --state-dir /var/lib/fleetloop
  fleetloop-agent explain --state-dir /var/lib/fleetloop
  fleetloop-agent slots --state-dir /var/lib/fleetloop --json
  fleetloop-agent doctor --state-dir /var/lib/fleetloop

exit status: 0 done, 1 refused or failed, 2 used wrongly, 3 not found or not enrolled, 4 the control plane cannot be
reached, 130 stopped by Ctrl-C
"""
_AWAY: Final = frozenset({"server_unreachable", "timeout", "connection_lost", "deadline"})
FAILED, NOT_FOUND, AWAY, STOPPED = 1, 3, 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    options = _parser().parse_args(arguments)
    _log_to_stderr(as_json=options.json)
    try:
        return int(options.command(options))
    except LinkError as error:
        return _complain(str(error), options, AWAY if error.reason in _AWAY else FAILED)
    except FileNotFoundError as error:
        return _complain(str(error), options, NOT_FOUND)
    except (LockedError, OSError) as error:
        return _complain(str(error), options)
    except (ValidationError, ValueError) as error:
        return _complain(f"not valid: {error}", options)
    except KeyboardInterrupt:
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "fleetloop-agent", description="The fleetloop device agent.", epilog=_EXAMPLES, formatter_class=shape
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
    enrolling.add_argument("--trust-root-sha256", help="sha256 of the first root.json, from whoever keeps the keys")
    enrolling.add_argument("--label", action="append", default=[], metavar="K=V", help="may be given many times")
    running = _command(commands, "run", _run, "run the agent of one device")
    told = (
        _command(commands, "status", _status, "one screen: what runs, what comes next and why not yet"),
        _command(commands, "doctor", _doctor, "say what state a device is in and what it waits for, as JSON"),
        _command(commands, "explain", _explain, "say in words why the device is where it is and what would move it on"),
        _command(commands, "slots", _slots, "read both slots in full and say what they hold, and whether it is whole"),
    )
    for each in (enrolling, running, *told):
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
        trust_root_sha256=options.trust_root_sha256,
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
        return _complain(f"{state.root} is not enrolled; see `fleetloop-agent enrol --help`", options, NOT_FOUND)
    return asyncio.run(_until_told(watched(run_one(state))))


def _host(options: argparse.Namespace) -> int:
    return asyncio.run(_until_told(watched(run_host(options.root, options.max_agents))))


def _doctor(options: argparse.Namespace) -> int:
    _print(json.dumps(examine(_existing(options)), indent=2, default=str))
    return 0


def _status(options: argparse.Namespace) -> int:
    lines = status(_existing(options))
    _print(json.dumps(lines, indent=2) if options.json else screen(lines))
    return 0


def _explain(options: argparse.Namespace) -> int:
    sentences = explain(_existing(options))
    _print(json.dumps(sentences, indent=2) if options.json else "\n".join(sentences))
    return 0


def _slots(options: argparse.Namespace) -> int:
    """Fail where something in a slot is not what was signed."""
    found = slots(_existing(options))
    if options.json:
        _print(json.dumps(found, indent=2))
    for each in [] if options.json else found:
        sound = "verified" if each["verified"] else f"DAMAGED: {', '.join(each['wrong'])}"
        named = f"{each['model']} version {each['version']}, counter {each['counter']}"
        _print(f"{each['slot']}  {each['role']:<9}  {named}, {sound}")
        _print(f"   release {each['release_digest']}\n   content {each['content_digest']}")
    if not found and not options.json:
        _print("no slot holds anything")
    return 0 if all(each["verified"] for each in found) else FAILED


def _existing(options: argparse.Namespace) -> StateDir:
    state = StateDir(options.state_dir)
    if not state.root.is_dir():
        raise FileNotFoundError(f"there is no directory {state.root}")
    return state


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


def _complain(message: str, options: argparse.Namespace, status: int = FAILED) -> int:
    line = json.dumps({"error": message}) if options.json else f"error: {message}"
    sys.stderr.write(line + "\n")
    return status


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
