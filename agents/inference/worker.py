"""Where bundles are opened: a question per line in, lines of JSON out. It ends with its input.

It is a fork server. Libraries are loaded once; every bundle gets a process of its own with limits, so whatever a model
does to its runtime, to memory or to time ends with that process, and its high-water mark is its own.
"""

import json
import math
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from agents.inference.contract import NotQualifiedError, read_contract
from agents.inference.demands import Demands
from agents.inference.engines import EngineCache
from agents.inference.measure import qualify
from agents.inference.runtime import Place
from agents.inference.shadowing import Question, shadow

_FILES_MAX: Final = 256
_FILE_BYTES: Final = 8 << 30
Answer = dict[str, Any]


def main() -> None:
    for line in sys.stdin:
        with tempfile.TemporaryDirectory(prefix="fleetloop-") as folder:
            # A child that is killed tidies nothing up.
            tempfile.tempdir = folder
            child = os.fork()
            if child == 0:
                _child(json.loads(line))
            _, status = os.waitpid(child, 0)
            tempfile.tempdir = None
        if os.WIFSIGNALED(status):
            _say({"died": signal.Signals(os.WTERMSIG(status)).name})
        elif os.WEXITSTATUS(status):
            _say({"died": f"exit {os.WEXITSTATUS(status)}"})


def _say(answer: Answer) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _child(question: Answer) -> None:
    """Answer one question and end, without running what the server would run at its end."""
    code = 1
    try:
        demands = Demands.model_validate(question["demands"])
        limit(demands)
        _say(_answer(question, demands))
        code = 0
    finally:
        os._exit(code)


def _answer(question: Answer, demands: Demands) -> Answer:
    work = _WORKS[question["work"]]
    try:
        return {"done": work(question, demands)}
    except NotQualifiedError as error:
        return {"refused": str(error)[:300]}
    except MemoryError:
        return {"refused": f"the model needs more than {demands.memory_mb} MB"}
    except OSError as error:
        return {"trouble": str(error)[:300]}


def _qualify(question: Answer, demands: Demands) -> Answer:
    bundle = Path(question["bundle"])
    numbers = qualify(bundle, demands, _place(question), _tell, rest=question["rest"])
    return {"numbers": numbers, "budget": read_contract(bundle).budget.model_dump()}


def _shadow(question: Answer, demands: Demands) -> Answer:
    asked = Question(
        Path(question["bundle"]),
        Path(question["ring"]),
        question["session"],
        question["content_digest"],
        question["duration_s"],
        question["first_word_s"],
    )
    return shadow(asked, demands, _place(question), _tell)


def _place(question: Answer) -> Place:
    engines = EngineCache(Path(question["engines"])) if question["engines"] else None
    return Place(question["machine"], engines)


def _tell(stage: str, value: float) -> None:
    _say({"stage": stage, "value": value})


_WORKS: Final[dict[str, Callable[[Answer, Demands], Answer]]] = {"qualify": _qualify, "shadow": _shadow}


def limit(demands: Demands) -> None:
    """Bound this process in memory, time and files; the kernel ends it beyond them."""
    memory = demands.memory_mb << 20
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES_MAX, _FILES_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    if demands.runtime == "cpu":
        limit_bytes = _address_bytes() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    else:
        # A GPU's driver reserves addresses by the terabyte; what it writes to is what counts.
        resource.setrlimit(resource.RLIMIT_DATA, (_address_bytes() + memory, _address_bytes() + memory))
    cpu_s = math.ceil(demands.cpu_s)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    # Survives a native call that never returns, and an agent that is no longer there to look at a clock.
    signal.setitimer(signal.ITIMER_REAL, demands.wall_s)


def _address_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
