"""Version 1 of the wire: pydantic and the standard library only.

Rules:
- nothing is removed or re-typed inside v1; readers ignore fields they do not know;
- whatever is signed travels and is stored as bytes and is never serialised again;
- JSON is read strictly (`strict_json`): duplicate keys, NaN and over-size are refused.

This package holds no behaviour beyond validation, canonical bytes, signature envelopes and the question whether a
release may be installed. `statement`, `trust` and `admission` are imported by name: a robot application needs none.
"""

from agents.protocol.v1.canonical import canonical_json, digest_of, sha256_hex, strict_json
from agents.protocol.v1.dsse import (
    DIRECTOR_PAYLOAD,
    RECORDING_PAYLOAD,
    REPORT_PAYLOAD,
    Envelope,
    EnvelopeError,
    Signature,
    device_key_id,
    key_id,
    open_device_envelope,
    open_envelope,
    pre_authentication_encoding,
    read_envelope,
    seal_device_envelope,
    seal_envelope,
)
from agents.protocol.v1.messages import (
    LIMITS,
    ActiveRelease,
    CheckIn,
    CheckInReply,
    DeploymentPhase,
    DeploymentReport,
    EnrolReply,
    EnrolRequest,
    ExposureWindow,
    FieldEvent,
    InstallReport,
    RecordingAnnounce,
    RecordingReply,
    RecordingState,
    RecordingStatement,
    RenewReply,
    RenewRequest,
    ReportReply,
    TelemetryBatch,
    TelemetryReply,
    enrol_proof,
)
from agents.protocol.v1.release import (
    BundleFile,
    ContentManifest,
    DirectorManifest,
    FileRole,
    ReleaseManifest,
    ReleaseOrder,
    TensorSpec,
)
from agents.protocol.v1.request import signing_input, signing_input_of_digest

__all__ = [
    "DIRECTOR_PAYLOAD",
    "LIMITS",
    "RECORDING_PAYLOAD",
    "REPORT_PAYLOAD",
    "ActiveRelease",
    "BundleFile",
    "CheckIn",
    "CheckInReply",
    "ContentManifest",
    "DeploymentPhase",
    "DeploymentReport",
    "DirectorManifest",
    "EnrolReply",
    "EnrolRequest",
    "Envelope",
    "EnvelopeError",
    "ExposureWindow",
    "FieldEvent",
    "FileRole",
    "InstallReport",
    "RecordingAnnounce",
    "RecordingReply",
    "RecordingState",
    "RecordingStatement",
    "ReleaseManifest",
    "ReleaseOrder",
    "RenewReply",
    "RenewRequest",
    "ReportReply",
    "Signature",
    "TelemetryBatch",
    "TelemetryReply",
    "TensorSpec",
    "canonical_json",
    "device_key_id",
    "digest_of",
    "enrol_proof",
    "key_id",
    "open_device_envelope",
    "open_envelope",
    "pre_authentication_encoding",
    "read_envelope",
    "seal_device_envelope",
    "seal_envelope",
    "sha256_hex",
    "signing_input",
    "signing_input_of_digest",
    "strict_json",
]
