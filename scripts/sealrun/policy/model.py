"""The values of a plan: the release asked for, and the policy it is held against.

Rules: every value is frozen and comes from one strict reading of a file; unknown keys are refused; limits are part of policy,
never of code.
"""

from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from sealrun import digest
from sealrun.outcome import Severity

type Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
type Text = Annotated[str, Meta(min_length=1, max_length=2000, pattern=r"\S")]
type Fraction = Annotated[float, Meta(ge=0, le=1)]
type Count = Annotated[int, Meta(ge=0)]
type Repository = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+\Z")]
type RuntimeName = Literal["onnx", "transformers"]
type Signed = Annotated[str, Meta(pattern=r"^(baseline|candidate|[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)\Z")]
type Level = Literal["low", "medium", "high", "critical"]
type SafeFormat = Literal[
    "onnx", "onnx-data", "safetensors", "gguf", "json", "jsonl", "csv", "text", "sentencepiece", "parquet", "arrow"
]

Justification = Literal[
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
]
"""What OpenVEX lets justify `not_affected`."""


class Posture(StrEnum):
    PRODUCTION = "production"
    RESEARCH = "research"


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a model comes from: a local path (nothing more to say), or a trusted repository at a 40-hex revision."""

    repository: Repository | None = None
    revision: Annotated[str, Meta(pattern=r"^[0-9a-f]{40}\Z")] | None = None


class ModelRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model folder, relative to `release.toml`: the file to run, the tokenizer, every file used by its sha256, and the
    runtime where the file's name does not say."""

    path: Text
    artifact: Text
    tokenizer: Text
    runtime: RuntimeName | None = None
    files: dict[str, digest.Sha256]
    source: Source = Source()
    licence: str = ""


class DataRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The evaluation data: a JSONL file, relative to `release.toml`, its sha256 and the field that holds the text. With a
    `reference_field` that text is a prompt, and what counts is the answer that stands there, `joiner` between the two."""

    path: Text
    sha256: digest.Sha256
    text_field: Name = "text"
    reference_field: Name | None = None
    joiner: Annotated[str, Meta(max_length=20)] = " "
    source: Source = Source()
    licence: str = ""


class Export(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An evaluator's per-case export, relative to `release.toml`, and its sha256."""

    path: Text
    sha256: digest.Sha256


class ImportedRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What engine imported compares: the `metric` that *evaluator* recorded for each case of two exports. `filter` chooses
    among the filters of an lm-eval export."""

    adapter: Literal["lm-eval-samples", "inspect-json", "promptfoo-jsonl"]
    evaluator: Name
    version: Text
    metric: Text
    direction: Literal["higher", "lower"] = "higher"
    filter: Text | None = None
    baseline: Export
    candidate: Export


class CertifyRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the change is certified; `runtime` is for models that name none, `window` the most tokens a model sees at once,
    longer texts are scored in parts, `batch` the texts at once; `heavy` allows environments of gigabytes to be installed."""

    engine: Literal["invarlock-0.17", "invarlock-0.3", "imported"] = "invarlock-0.17"
    runtime: RuntimeName | None = None
    profile: Name = "release"
    window: Annotated[int, Meta(ge=2)] = 1024
    batch: Annotated[int, Meta(ge=1, le=1024)] = 1
    device: Literal["cpu", "cuda"] = "cpu"
    heavy: bool = False
    imported: ImportedRef | None = None


class Release(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`release.toml`."""

    format: Literal["sealrun/release-v1"]
    name: Name
    version: Annotated[str, Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+_-]{0,62}$")]
    posture: Posture
    retention: Name
    baseline: ModelRef
    candidate: ModelRef
    data: DataRef
    certify: CertifyRef = CertifyRef()


class Control(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the checklist: who judges it, what it asks, and what to do when it fails."""

    id: Annotated[str, Meta(pattern=r"^[a-z]+\.[a-z-]+$")]
    part: Literal["pre-deployment", "model and data", "runtime", "certification"]
    stage: Name
    title: Text
    solution: Text
    deployment: bool = False


class Checklist(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy/checklist.toml`; `deployment` controls become loud warnings under the research posture."""

    format: Literal["sealrun/checklist-v1"]
    control: tuple[Control, ...]


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of a certification profile, set in `policy/gates.toml` alone.

    Least amounts hold for each model: cases, windows (pieces that a model saw at once), predicted tokens; `min_replicates` for
    the resampling behind the interval. `max_ratio` bounds the upper end, `max_interval_width` the width of the 95 % interval of
    candidate / baseline of the normalised NLL per UTF-8 byte; `max_regression` the mean difference in nats per UTF-8 byte.
    `max_score_drop` and `max_score_interval_width` hold for a recorded score: how much the interval of candidate - baseline may
    reach to the bad side, and its width. `required_guards` are the engine's own guards that must have been evaluated, by
    engine. The recomputation agrees on points to `recompute_tolerance`, on the ends of the interval to `interval_tolerance` as
    a share of its width. `witness_cases` of each model are scored again in verify, and each must agree to `witness_tolerance`
    as a share of its log probability.
    """

    min_cases: Annotated[int, Meta(ge=1)]
    min_windows: Count
    min_tokens: Count
    min_replicates: Count
    max_ratio: Annotated[float, Meta(gt=0)]
    max_interval_width: Annotated[float, Meta(gt=0)]
    max_regression: Annotated[float, Meta(ge=0)]
    max_score_drop: Annotated[float, Meta(ge=0)] = 0.03
    max_score_interval_width: Annotated[float, Meta(gt=0)] = 0.06
    required_guards: dict[Name, tuple[Name, ...]] = {}
    recompute_tolerance: Annotated[float, Meta(gt=0, le=1e-6)] = 1e-9
    interval_tolerance: Annotated[float, Meta(gt=0, le=0.5)] = 0.1
    witness_cases: Annotated[int, Meta(ge=1)]
    witness_tolerance: Annotated[float, Meta(ge=0, le=0.01)] = 1e-3


class CertifyGate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether engine invarlock-0.3 puts its guards' details into the bundle."""

    guards_evidence: bool = False


class AuditGate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What fails the audit: any advisory at or above `fail_on`, or the level of its `environment` where that has its own;
    `unknown` severity counts as `unknown_is`."""

    fail_on: Level
    unknown_is: Level
    max_snapshot_age_days: Count
    environment: dict[Name, Level] = {}

    def threshold(self, environment: str) -> Severity:
        """Return the lowest severity that fails in *environment*."""
        return Severity(self.environment.get(environment, self.fail_on))


class WaiverGate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long an exception of any kind may last from its grant, and how many days before its end it warns."""

    max_days: Count
    warn_days: Count


class VexGate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The authors whose VEX documents in `policy/vex/` count."""

    trusted: tuple[Text, ...] = ()


class ModelGate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Formats a model or data folder may hold, the ONNX operator domains known, and the repositories trusted as a source.

    `signers` names whose OMS signature a model must carry: a role or a repository, and a key file of `policy/signers/`.
    What may hold a pickle is no format to admit: a waiver admits one file of it, by digest.
    """

    formats: tuple[SafeFormat, ...]
    onnx_domains: tuple[str, ...]
    trusted_repositories: tuple[Repository, ...] = ()
    signers: dict[Signed, Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+\.pub\Z")]] = {}


class SecretsGate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the secret scan leaves out, as POSIX path prefixes with a reason each, and whether inline pragmas count."""

    excluded: dict[str, Text] = {}
    pragmas: bool = False


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one program of a stage may take. `default` and `stage` are wall-clock seconds, `default` where a stage has no
    line of its own; `memory_mib`, `output_mib` and `processes` (threads too) hold for a program and all it starts."""

    default: Annotated[float, Meta(gt=0)]
    stage: dict[str, Annotated[float, Meta(gt=0)]] = {}
    memory_mib: Annotated[int, Meta(ge=256)] = 8192
    output_mib: Annotated[int, Meta(ge=1)] = 2048
    processes: Annotated[int, Meta(ge=16)] = 512

    def seconds(self, stage: str) -> float:
        """Return the limit for *stage*."""
        return self.stage.get(stage, self.default)


class Gates(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy/gates.toml`."""

    format: Literal["sealrun/gates-v1"]
    profile: dict[Name, Profile]
    certify: CertifyGate = CertifyGate()
    audit: AuditGate
    waivers: WaiverGate
    vex: VexGate = VexGate()
    model: ModelGate
    secrets: SecretsGate
    limits: Limits


class Waiver(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An accepted real finding, or an allowlisted false one, until a date. `rule` is an advisory id, a detector or a format;
    `target` the package, path or fingerprint it holds for. Which fields its kind needs: `waivers`."""

    control: Text
    rule: Text
    target: Text
    version: str = ""
    environment: str = ""
    reason: Text
    owner: Text
    approver: Text
    granted: date
    expires: date
    status: Literal["", "not_affected", "affected", "fixed", "under_investigation"] = ""
    justification: Literal[""] | Justification = ""
    link: str = ""


class Claim(Struct, frozen=True, kw_only=True):
    """What somebody's VEX says: the names of the vulnerability, package and version, status and why, who says so and when."""

    names: frozenset[str]
    package: str
    version: str
    status: str
    justification: str
    authors: tuple[str, ...]
    said: str
    file: str


class Waivers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy/waivers.toml`, and beside it what `policy/baseline.toml` stands for."""

    format: Literal["sealrun/waivers-v1"]
    waiver: tuple[Waiver, ...] = ()
    baseline: tuple[Waiver, ...] = ()


class RetentionClass(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long evidence of this class is kept, and why; `production` says whether a production release may use it."""

    days: Annotated[int, Meta(ge=1)]
    reason: Text
    production: bool


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy/retention.toml`."""

    format: Literal["sealrun/retention-v1"]
    retention: dict[Name, RetentionClass]


class Plan(Struct, frozen=True, kw_only=True):
    """Everything a run is held against, read once. `content` is its digest without `judged_at`, `digest` with it.

    `file` is the release file itself; `advisories` the sha256 of the source that the organisation's advisories must come from,
    empty where it names none.
    """

    file: Path
    release: Release
    release_sha256: digest.Sha256
    checklist: Checklist
    gates: Gates
    waivers: Waivers
    retention: Retention
    vex: tuple[Claim, ...] = ()
    policy: digest.Manifest
    judged_at: date
    advisories: str = ""

    @property
    def base(self) -> Path:
        """The folder of the release file, which model and data paths are relative to."""
        return self.file.parent

    @property
    def content(self) -> digest.Sha256:
        """The digest of the release and the policy."""
        return digest.of_json([self.release_sha256, digest.of_manifest(self.policy)])

    @property
    def digest(self) -> digest.Sha256:
        """The digest of the release, the policy and the day of judgement."""
        return digest.of_json([self.content, self.judged_at.isoformat()])

    @property
    def profile(self) -> Profile:
        """The certification profile that the release names."""
        return self.gates.profile[self.release.certify.profile]

    @property
    def title(self) -> str:
        """NAME-VERSION."""
        return f"{self.release.name}-{self.release.version}"
