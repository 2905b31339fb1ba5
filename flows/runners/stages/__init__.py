"""The stages of the loop: ingest, curate, retrain, evaluate, gate, promote. Each is idempotent by its key (§11)."""

from flows.runners.stages.bundles import bundle_of, prefixed
from flows.runners.stages.curate import curate, ingest
from flows.runners.stages.evaluate import Evaluated, evaluate, make_suites
from flows.runners.stages.promote import ask_gate, promote
from flows.runners.stages.simulate import simulate
from flows.runners.stages.train import pretrain, retrain

__all__ = [
    "Evaluated",
    "ask_gate",
    "bundle_of",
    "curate",
    "evaluate",
    "ingest",
    "make_suites",
    "prefixed",
    "pretrain",
    "promote",
    "retrain",
    "simulate",
]
