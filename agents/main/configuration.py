"""`agent/agent.json`: what an operator sets on the device itself. Absent means defaults, unknown keys are errors."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from agents.capture import Bounds, CaptureRule, CaptureRules, Courtesy, Retry
from agents.inference import Demands
from agents.link import DownloadLimits
from agents.protocol.v1 import strict_json
from agents.protocol.v1.safe_state import MAX_CHARS, check
from agents.sdk.files import read_bounded
from agents.sdk.layout import StateDir
from agents.update import Policy

_MAX_BYTES = 64 << 10


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Trial(_Part):
    """Without `health_required` a trial that hears nothing until its deadline counts as good."""

    deadline_s: float = Field(default=300.0, gt=0)
    health_required: bool = True


class Shadow(_Part):
    """`least_s` is how long every candidate runs beside the active model; an order may ask for more."""

    least_s: float = Field(default=0.0, ge=0, le=7 * 86400)


class Download(_Part):
    deadline_s: float = Field(default=4 * 3600.0, gt=0)
    min_bytes_per_s: float = Field(default=1024.0, ge=0)
    disk_reserve_bytes: int = Field(default=256 << 20, ge=0)


class Rule(_Part):
    priority: int = 50
    max_per_hour: int = Field(default=600, ge=0)
    keep: bool = True


class Capture(_Part):
    kinds: dict[str, Rule] = Field(default_factory=dict)
    otherwise: Rule = Rule()
    outbox_files: int = Field(default=1000, ge=1)
    outbox_bytes: int = Field(default=512 << 20, ge=1)
    age_days: float = Field(default=30, gt=0)
    event_age_days: float = Field(default=180, gt=0)
    metered_max_bytes: int = Field(default=1 << 20, ge=0)
    hot_c: float = Field(default=85.0, gt=0)
    rejected_retry_s: float = Field(default=86400.0, gt=0)
    rejected_tries: int = Field(default=3, ge=1)


class Status(_Part):
    """A page and metrics on loopback; no port, no page."""

    port: int | None = Field(default=None, ge=1, le=65535)


class Configuration(_Part):
    trial: Trial = Trial()
    qualify: Demands = Demands()
    shadow: Shadow = Shadow()
    download: Download = Download()
    capture: Capture = Capture()
    status: Status = Status()
    safe_state: str = Field(default="", max_length=MAX_CHARS)
    network_metered: bool | None = None

    @field_validator("safe_state")
    @classmethod
    def _readable(cls, text: str) -> str:
        return check(text)

    @classmethod
    def load(cls, state: StateDir) -> "Configuration":
        """Return what the file says; raise ValueError if it says something else than it may."""
        data = read_bounded(state.private / "agent.json", _MAX_BYTES)
        return cls() if data is None else cls.model_validate(strict_json(data, _MAX_BYTES))

    def policy(self) -> Policy:
        return Policy(
            trial_deadline_s=self.trial.deadline_s,
            health_required=self.trial.health_required,
            shadow_s=self.shadow.least_s,
            safe_state=self.safe_state,
        )

    def download_limits(self) -> DownloadLimits:
        return DownloadLimits(**self.download.model_dump())

    def capture_rules(self) -> CaptureRules:
        kinds = {name: CaptureRule(**rule.model_dump()) for name, rule in self.capture.kinds.items()}
        return CaptureRules(kinds, CaptureRule(**self.capture.otherwise.model_dump()))

    def bounds(self) -> Bounds:
        said = self.capture
        ages_s = (said.age_days * 86400, said.event_age_days * 86400)
        return Bounds(said.outbox_files, said.outbox_bytes, *ages_s)

    def courtesy(self) -> Courtesy:
        return Courtesy(self.capture.metered_max_bytes, self.capture.hot_c)

    def retry(self) -> Retry:
        return Retry(self.capture.rejected_retry_s, self.capture.rejected_tries)
