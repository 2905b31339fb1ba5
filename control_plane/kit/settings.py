"""How one installation is configured: environment variables `FLEETLOOP_...`, read once by the composition roots."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FLEETLOOP_", frozen=True, extra="ignore")

    home: Path = Field(default=Path(".fleetloop"), description="folder for keys, the embedded database and objects")
    database_url: str | None = Field(
        default=None, description="PostgreSQL to use, e.g. postgresql://user@host/db; the embedded one if unset"
    )
    object_store: str | None = Field(
        default=None, description="s3://BUCKET for S3 (endpoint and keys below), else a folder; HOME/objects if unset"
    )
    s3_endpoint: str | None = Field(default=None, description="S3 endpoint; AWS's own if unset")
    public_url: str = Field(default="http://127.0.0.1:8080", description="where devices and flows reach the API")
    prefect_api_url: str | None = Field(default=None, description="Prefect's API; runs wait in the ledger if unset")
    orchestrator: str = Field(default="prefect", pattern="^(prefect|subprocess|none)$", description="who starts flows")
    check_in_s: float = Field(default=30.0, gt=0, description="how often an idle device should check in")
    tick_s: float = Field(default=1.0, gt=0, description="how often reconcilers look, if nothing wakes them")
    approvals_needed: int = Field(default=1, ge=0, le=10, description="people who must approve a release")
    bootstrap_token: SecretStr | None = Field(default=None, description="admin token made at first start if unset")
    heartbeat_timeout_s: float = Field(default=20.0, gt=0, description="a run silent for so long is asked for again")

    @property
    def keys(self) -> Path:
        return self.home / "keys"
