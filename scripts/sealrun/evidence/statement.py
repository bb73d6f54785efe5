"""The stage statement: what one stage read, used, left behind and judged, as an in-toto Statement v1.

Rules: every file is named with its sha256; nothing of the host stands in it (no path, time, user or duration), so that the
same inputs give the same bytes; a statement that cannot be decoded strictly is refused.

Source: in-toto Attestation Framework, Statement v1 and ResourceDescriptor v1.
"""

from pathlib import Path
from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

from sealrun import digest, files
from sealrun.errors import VerificationFailed
from sealrun.outcome import Finding, Outcome, Verdict

type StatementType = Literal["https://in-toto.io/Statement/v1"]
type StageType = Literal["urn:sealrun:stage:v1"]
STATEMENT_TYPE: StatementType = "https://in-toto.io/Statement/v1"
STAGE_PREDICATE: StageType = "urn:sealrun:stage:v1"


class Sha256Set(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """in-toto's DigestSet, with the one algorithm used here."""

    sha256: digest.Sha256


class Resource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """in-toto's ResourceDescriptor: a name and its digest."""

    name: str
    digest: Sha256Set


class Tool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program that a stage ran: its distribution, locked version, environment and that environment's lock digest."""

    name: str
    version: str
    environment: str
    lock: digest.Sha256


class StagePredicate(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What a stage states. `plan` is the digest of the plan, `reuse_key` that of inputs, locks, tools and plan content;
    `report_only` is there when no gate was enforced, and then no bundle takes it."""

    stage: str
    sealrun: str
    python: str
    plan: digest.Sha256
    judged_at: str
    reuse_key: digest.Sha256
    inputs: tuple[Resource, ...]
    tools: tuple[Tool, ...]
    network: Literal["denied", "opened", "unused"]
    verdict: Verdict
    outcomes: tuple[Outcome, ...]
    findings: tuple[Finding, ...] = ()
    gathered: tuple[str, ...] = ()
    error: str = ""
    error_code: int = 0
    report_only: Literal[True] | UnsetType = UNSET


class StageStatement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The in-toto Statement around it; subjects are the files below `evidence/STAGE/`."""

    type_: StatementType = field(name="_type", default=STATEMENT_TYPE)
    subject: tuple[Resource, ...]
    predicate_type: StageType = field(name="predicateType", default=STAGE_PREDICATE)
    predicate: StagePredicate

    def digests(self) -> dict[str, digest.Sha256]:
        """Return the subjects as name to sha256."""
        return {resource.name: resource.digest.sha256 for resource in self.subject}


def resources(manifest: digest.Manifest) -> tuple[Resource, ...]:
    """Return *manifest* as in-toto resources, sorted by name."""
    return tuple(Resource(name=e.path, digest=Sha256Set(sha256=e.sha256)) for e in sorted(manifest))


def load(path: Path) -> StageStatement:
    """Return the statement at *path*. Raises InputMissing, or VerificationFailed when it is not a stage statement."""
    return files.decode(files.read_bytes(path, "statement"), StageStatement, str(path), VerificationFailed)


def write(path: Path, statement: StageStatement) -> None:
    """Write *statement* to *path*, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, statement)
