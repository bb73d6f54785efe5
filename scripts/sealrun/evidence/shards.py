"""A shard: one share of what a stage gathers, with a statement of which it is and what it was made from.

Rules: a shard holds tool output and never a verdict: the stage judges the union of all N, each there once; it is believed
under the reuse key of the stage that takes it, which stands for inputs, locks, tools, plan and our own source.

Leaves below `shards/STAGE/K-of-N/`: `statement.json`, and `part/` with what the statement names.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from sealrun import digest, files
from sealrun.errors import UsageError, VerificationFailed
from sealrun.evidence.statement import STATEMENT_TYPE, Resource, StatementType

FOLDER, PART, STATEMENT = "shards", "part", "statement.json"
MOST = 256
_ALL = "all"

type ShardType = Literal["urn:sealrun:shard:v1"]
type _Number = Annotated[int, Meta(ge=1, le=MOST)]


class Shard(Struct, frozen=True, order=True):
    """Share *number* of *of*; number 0 stands for all of them together."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number or _ALL}/{self.of}"

    @property
    def folder(self) -> str:
        """The name of its folder, which is also fit for an artifact's name."""
        return f"{self.number}-of-{self.of}"


class ShardPredicate(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Which share of which stage this is, and under which plan and reuse key it was gathered."""

    stage: str
    number: _Number
    of: _Number
    python: str
    plan: digest.Sha256
    reuse_key: digest.Sha256
    network: Literal["denied", "opened", "unused"]


class ShardStatement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The in-toto Statement around it; subjects are the files below `part/`."""

    type_: StatementType = field(name="_type", default=STATEMENT_TYPE)
    subject: tuple[Resource, ...]
    predicate_type: ShardType = field(name="predicateType", default="urn:sealrun:shard:v1")
    predicate: ShardPredicate

    def digests(self) -> dict[str, digest.Sha256]:
        """Return the subjects as name to sha256."""
        return {resource.name: resource.digest.sha256 for resource in self.subject}

    @property
    def shard(self) -> Shard:
        """Which share it is."""
        return Shard(self.predicate.number, self.predicate.of)


def parse(text: str) -> Shard:
    """Return the shard that *text* names: `2/3`, or `all/3`. Raises UsageError."""
    match = re.fullmatch(rf"({_ALL}|[0-9]{{1,3}})/([0-9]{{1,3}})", text)
    shard = Shard(0 if match[1] == _ALL else int(match[1]), int(match[2])) if match else Shard(0, 0)
    if match is None or not (1 <= shard.of <= MOST and (match[1] == _ALL or 1 <= shard.number <= shard.of)):
        raise UsageError(f"--shard: got {text!r}, expected K/N with K from 1 to N, or all/N; N is at most {MOST}")
    return shard


def place(out: Path, stage: str, shard: Shard) -> Path:
    """Return the folder of *shard* below the output folder *out*."""
    return out / FOLDER / stage / shard.folder


def load(folder: Path) -> ShardStatement:
    """Return the statement of the shard in *folder*. Raises InputMissing, VerificationFailed."""
    path = folder / STATEMENT
    statement = files.decode(files.read_bytes(path, "shard"), ShardStatement, str(path), VerificationFailed)
    if statement.shard.folder != folder.name or statement.predicate.stage != folder.parent.name:
        raise VerificationFailed(f"{path}: states {statement.predicate.stage} {statement.shard}, which belongs elsewhere")
    return statement
