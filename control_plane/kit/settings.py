"""How one installation is configured: environment variables `FLEETLOOP_...`, read once by the composition roots."""

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

SECRETS_DIR = "FLEETLOOP_SECRETS_DIR"
"""Names a folder whose files are settings, such as fleetloop_database_url: what containers get their secrets in."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FLEETLOOP_", frozen=True, extra="ignore")

    home: Path = Field(default=Path(".fleetloop"), description="folder for keys, the embedded database and objects")
    database_url: str | None = Field(
        default=None, description="PostgreSQL to use, e.g. postgresql://user@host/db; the embedded one if unset"
    )
    database_direct_url: str | None = Field(
        default=None,
        description="the same PostgreSQL past a pooler in transaction mode, for LISTEN, migrations and backups; "
        "set it if FLEETLOOP_DATABASE_URL leads to such a pooler",
    )
    database_replica_url: str | None = Field(
        default=None,
        description="a streaming replica of the same PostgreSQL for pages, lists and sums, read while it is fresh",
    )
    object_store: str | None = Field(
        default=None, description="s3://BUCKET for S3 (endpoint and keys below), else a folder; HOME/objects if unset"
    )
    s3_endpoint: str | None = Field(default=None, description="S3 endpoint; AWS's own if unset")
    s3_public_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s\"'<>]+$",
        description="S3 endpoint as devices, people and jobs reach it, if it is another; devices need https",
    )
    s3_region: str | None = Field(
        default=None, pattern="^[a-z0-9-]{1,40}$", description="S3 region; AWS_DEFAULT_REGION's, or us-east-1, if unset"
    )
    s3_addressing: str | None = Field(
        default=None,
        pattern="^(path|virtual)$",
        description="whether the bucket is in an S3 URL's path or in its host's name; virtual on AWS's own, else path",
    )
    s3_encryption: str | None = Field(
        default=None,
        pattern="^(AES256|aws:kms)$",
        description="encryption S3 is asked for with each object; what the bucket does by itself if unset",
    )
    s3_kms_key: str | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        description="key for aws:kms; the bucket's or account's own if unset",
    )
    public_url: str = Field(default="http://127.0.0.1:8080", description="where devices and flows reach the API")
    prefect_api_url: str | None = Field(default=None, description="Prefect's API; runs wait in the ledger if unset")
    prefect_ui_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s\"'<>]+$",
        max_length=500,
        description="where people see Prefect's own pages, e.g. https://prefect.example; runs link there",
    )
    orchestrator: str = Field(default="prefect", pattern="^(prefect|subprocess|none)$", description="who starts flows")
    check_in_s: float = Field(default=30.0, gt=0, description="how often an idle device should check in")
    tick_s: float = Field(default=1.0, gt=0, description="how often reconcilers look, if nothing wakes them")
    approvals_needed: int = Field(default=1, ge=0, le=10, description="people who must approve a release")
    trust_domain: str = Field(
        default="fleetloop",
        pattern="^[a-z0-9][a-z0-9.-]{0,99}$",
        description="of device names, spiffe://DOMAIN/device/ID",
    )
    device_ca: Path | None = Field(
        default=None, description="key and certificates of the device authority (PEM); HOME/keys/device-ca.pem if unset"
    )
    device_names: str = Field(
        default="localhost,127.0.0.1", description="names and addresses devices reach their port by, in its certificate"
    )
    device_auth: str = Field(
        default="either",
        pattern="^(mtls|signature|either)$",
        description="what proves a device: its TLS certificate, a signature on each request, or either of them",
    )
    device_rate_per_s: float = Field(
        default=20.0, gt=0, description="requests a second that one device may keep up, per API process; then 429"
    )
    preload_devices: int = Field(
        default=1_000_000,
        ge=0,
        description="devices heard within a day that an API process reads into memory when it starts, 0.5 kB each",
    )
    require_signed: bool = Field(
        default=False, description="take recordings only with a statement about them that the device signed"
    )
    proxy_secret: SecretStr | None = Field(
        default=None,
        description="what a proxy on the proxied port says in Fleetloop-Proxy-Secret; not on a unix socket",
    )
    evidence_cell_s: int = Field(
        default=60, ge=1, le=3600, description="how finely exposure is added up in time; a change counts from then on"
    )
    evidence_panel: int = Field(
        default=20_000, ge=1, description="about how many devices have sums of their own; all of a smaller fleet"
    )
    retention_windows_days: int = Field(
        default=90, ge=1, description="days for which windows and field events are kept one by one"
    )
    retention_floor_days: int = Field(
        default=30, ge=1, description="days for which they are kept at least, whatever the above says"
    )
    retention_cells_days: int = Field(
        default=400, ge=31, description="days for which exposure is kept by time, and by device; totals stay"
    )
    scrape_s: float = Field(default=15.0, ge=1, le=120, description="how often exporters of clusters are read")
    retention_meters_days: int = Field(
        default=14, ge=1, le=400, description="days for which minutes of what exporters said are kept"
    )
    oidc_issuer: str | None = Field(
        default=None, description="OpenID Connect provider people sign in with; none if unset"
    )
    oidc_client_id: str | None = Field(default=None, description="this installation's name at the provider")
    oidc_client_secret: SecretStr | None = Field(default=None, description="and its secret there")
    oidc_role_claim: str = Field(default="groups", description="claim of the id token that gives the role")
    oidc_roles: str = Field(
        default="", description="which word of that claim gives which role: GROUP=ROLE,GROUP=ROLE; the strongest counts"
    )
    oidc_name_claim: str = Field(
        default="email",
        description="claim that gives the name here at the first sign-in; a mail address must be verified",
    )
    webhook_networks: str = Field(
        default="", description="networks (CIDR, CIDR) that webhooks may reach beyond the public internet"
    )
    webhook_http: bool = Field(
        default=False, description="let webhooks go by plain HTTP to this machine itself; for trials only"
    )
    openlineage_url: str | None = Field(
        default=None,
        max_length=500,
        pattern=r"^https?://[^\s\"'<>@]+$",
        description="where run events are sent as they happen, e.g. http://marquez:5000/api/v1/lineage",
    )
    openlineage_token_file: Path | None = Field(
        default=None, description="file with the bearer token for it, read anew for each event"
    )
    heartbeat_timeout_s: float = Field(default=20.0, gt=0, description="a run silent for so long is asked for again")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment, then the files of the folder of secrets, if one is named."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, SecretsSettingsSource(settings_cls, os.environ.get(SECRETS_DIR) or None)

    @property
    def direct_url(self) -> str | None:
        """Where PostgreSQL itself is."""
        return self.database_direct_url or self.database_url

    @property
    def pooled(self) -> bool:
        """Whether a pooler in transaction mode stands before PostgreSQL."""
        return self.database_direct_url is not None

    @property
    def keys(self) -> Path:
        return self.home / "keys"
