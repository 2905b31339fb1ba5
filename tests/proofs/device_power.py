"""Power cuts and failing disks: at every write of five kinds of update, and at a thousand random moments.

A cut is SIGKILL before (or in the middle of) one operation on the disk; then another agent starts on the same disk.
A fault is ENOSPC or EROFS from one operation on, for a dozen operations; the same agent goes on. The models are small,
the journal, slots, downloads, TUF metadata and sockets are the real ones. Whether a disk is good is judged by reading
the link and hashing what it leads to, with none of the agent's code.

    python -m tests.proofs.device_power [--sample]
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from agents.protocol.v1 import DeploymentPhase as P
from agents.protocol.v1.trust import Revocations
from agents.sdk import StateDir
from tests.agent.bundles import files, release
from tests.proofs.random_kills import random_kills
from tests.support.power import Strike
from tests.support.updates import Broken, Fleet, Wish, drop_disk, run_agent, target_of

Line = dict[str, Any]
_KINDS: Final = ("KILL", "ENOSPC", "EROFS")
_WORKERS: Final = 3
_WORST: Final = ("unbootable", "unverified", "mixed", "no_model", "stuck", "wrong_model")


@dataclass(frozen=True)
class Scenario:
    """`template` is the disk before; `may_run` are the contents that may be found after a cut, None is no model."""

    name: str
    template: Path
    wish: Wish
    ends_with: str
    may_run: frozenset[str | None]
    rotten: str | None = None


class Scenarios:
    """Disks and servers for first install, second install, revert, revocation and a damaged slot."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet, self.folder = fleet, folder
        one, two = files(1.0), files(2.0)
        self.old = fleet.knows(release(fleet.server, 1, one), one)
        self.new = fleet.knows(release(fleet.server, 2, two), two)
        self._empty = fleet.enrolled(folder / "empty")
        with fleet.serving():
            self._one = self._after("one", self._empty.root, self._committed(1))
            self._two = self._after("two", self._one.root, self._committed(2))

    def _committed(self, counter: int) -> Wish:
        built = self.old if counter == 1 else self.new
        return Wish(target_of(built), lambda state: (state.phase, state.floor) == (P.COMMITTED, counter))

    def _after(self, name: str, before: Path, wish: Wish) -> StateDir:
        disk = copied(before, self.folder / name)
        if run_agent(disk, wish, Strike()) != 0:
            raise RuntimeError(f"{name} cannot be prepared")
        return disk

    def first(self) -> Scenario:
        wish = self._committed(1)
        return Scenario("first", self._empty.root, wish, self.old.content_digest, frozenset({None, *self._old}))

    def second(self) -> Scenario:
        return Scenario("second", self._one.root, self._committed(2), self.new.content_digest, self._both)

    def revert(self) -> Scenario:
        wish = Wish(
            target_of(self.new), lambda state: state.phase is P.REVERTED, {self.new.content_digest: False}
        )  # fmt: skip
        return Scenario("revert", self._one.root, wish, self.old.content_digest, self._both)

    def revocation(self) -> Scenario:
        self.fleet.server.revocations = Revocations(epoch=1, release_digests=(self.new.order.release_digest,))
        self.fleet.server.publish()
        wish = Wish(target_of(self.new), lambda state: state.reason == "revoked")
        return Scenario("revocation", self._two.root, wish, self.old.content_digest, self._both)

    def damaged(self) -> Scenario:
        disk = copied(self._two.root, self.folder / "rotten")
        model = disk.active / "model.onnx"
        model.chmod(0o644)
        model.write_bytes(b"rot")
        model.chmod(0o444)
        rotten, wish = self.new.content_digest, self._committed(2)
        return Scenario("damaged", disk.root, wish, rotten, self._both, rotten)

    @property
    def _old(self) -> frozenset[str]:
        return frozenset({self.old.content_digest})

    @property
    def _both(self) -> frozenset[str | None]:
        return frozenset({self.old.content_digest, self.new.content_digest})


def copied(source: Path, target: Path) -> StateDir:
    # As it is, with its hard links: what rots in a slot rots in the store too.
    subprocess.run(["cp", "-a", "--", str(source), str(target)], check=True)
    return StateDir(target)


def case(fleet: Fleet, scenario: Scenario, strike: Strike, disk_path: Path) -> str:
    """Strike one update, and let another agent end it; return "" or the kind of failure."""
    disk = copied(scenario.template, disk_path)
    try:
        code = run_agent(disk, _watched(fleet, scenario, disk), strike)
        if code not in ({-9, 0} if strike.kind == "KILL" else {0}):
            return "stuck"
        after_cut(fleet, scenario, disk)
        if run_agent(disk, scenario.wish, Strike()) != 0:
            return "stuck"
        return "" if fleet.runs(disk) == scenario.ends_with else "wrong_model"
    except Broken as broken:
        return broken.kind
    finally:
        drop_disk(disk_path)


def after_cut(fleet: Fleet, scenario: Scenario, disk: StateDir) -> None:
    """Raise Broken unless this disk could be started from, whatever happened to it."""
    try:
        runs = fleet.runs(disk)
    except Broken:
        rotten = disk.root / str(disk.active.readlink())
        if scenario.rotten is None or not rotten.name.endswith(scenario.rotten):
            raise
        return
    if runs not in scenario.may_run:
        raise Broken("no_model" if runs is None else "wrong_model", f"{runs} runs")


def _watched(fleet: Fleet, scenario: Scenario, disk: StateDir) -> Wish:
    """Have the disk judged after every step of an agent that meets a fault."""
    wish = scenario.wish
    return Wish(wish.target, wish.done, wish.healthy, lambda: after_cut(fleet, scenario, disk))


_GIVEN: dict[str, tuple[Fleet, Scenario]] = {}  # what forked workers inherit: it holds functions, which do not travel


def _case_in_worker(name: str, strike: Strike, path: Path) -> str:
    fleet, scenario = _GIVEN[name]
    return case(fleet, scenario, strike, path)


def points_of(scenario: Scenario, folder: Path) -> list[str]:
    log = folder / f"{scenario.name}.points"
    disk = copied(scenario.template, folder / f"{scenario.name}.plain")
    if run_agent(disk, scenario.wish, Strike(log=log)) != 0:
        raise RuntimeError(f"the {scenario.name} scenario does not end well even without a cut")
    drop_disk(disk.root)
    return [name for name, _ in json.loads(log.read_text())]


def strikes_of(points: int, sample: int | None) -> list[Strike]:
    every = max(1, points // sample) if sample else 1
    return [Strike(kind, at) for kind in _KINDS for at in range(0, points, every)]


def cut(fleet: Fleet, scenario: Scenario, folder: Path, sample: int | None) -> Line:
    with fleet.serving():
        points = points_of(scenario, folder)
        strikes = strikes_of(len(points), sample)
        _GIVEN[scenario.name] = fleet, scenario
        with ProcessPoolExecutor(_WORKERS, mp_context=get_context("fork")) as pool:
            paths = [folder / f"{scenario.name}.{strike.kind}.{strike.at}" for strike in strikes]
            found = list(pool.map(_case_in_worker, [scenario.name] * len(strikes), strikes, paths))
    bad = Counter(kind for kind in found if kind)
    where = [f"{s.kind}@{s.at}:{points[s.at]}:{kind}" for s, kind in zip(strikes, found, strict=True) if kind]
    kinds = Counter(strike.kind for strike in strikes)
    figures = {"points": len(points), "cuts": kinds["KILL"], "ENOSPC": kinds["ENOSPC"], "EROFS": kinds["EROFS"]}
    figures |= {kind: bad.get(kind, 0) for kind in _WORST}
    line = {"proof": f"power: {scenario.name}", "ok": not bad, "figures": figures, "bound": "0 of every failure"}
    return line | ({"where": where[:20]} if where else {})


def run(sample: int | None = None, kills: int = 1000, whole: int = 40) -> Iterator[Line]:
    """Prove it; with `sample` at about so many points of each scenario only."""
    folder = Path(tempfile.mkdtemp(prefix="fl-power-"))
    fleet = Fleet()
    try:
        scenarios = Scenarios(fleet, folder)
        made: tuple[Callable[[], Scenario], ...] = (
            scenarios.first, scenarios.second, scenarios.revert, scenarios.damaged, scenarios.revocation,
        )  # fmt: skip
        for make in made:
            yield cut(fleet, make(), folder, sample)
        yield random_kills(folder / "random", kills, whole)
    finally:
        fleet.close()
        for model in folder.glob("**/slots/*/*"):
            model.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str]) -> int:
    ok = True
    for line in run(12, 30, 2) if "--sample" in arguments else run():
        print(json.dumps(line), flush=True)
        ok = ok and line["ok"]
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
