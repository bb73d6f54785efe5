"""The ledger of promotions: one signed line for each, every line naming the one before it by its digest.

Rules: a line is a DSSE envelope around SLSA's verification summary of one bundle for one stage, so the ledger is its own proof;
its place in the chain is part of what is signed; lines are added at the end by one writer at a time and never changed; the
file appears whole or as it was. Whoever holds a trusted key could still write another chain: note the head elsewhere.

Source: DSSE v1.0; in-toto Statement v1; SLSA Verification Summary v1; docs/promotion.md.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct, field

from sealrun import digest, files
from sealrun.errors import VerificationFailed
from sealrun.evidence import manifest, sign
from sealrun.evidence.statement import STATEMENT_TYPE, Resource, Sha256Set, StatementType
from sealrun.evidence.trust import Trust, may_promote
from sealrun.evidence.verify import Verification

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

START = "0" * 64  # what the first line names as the one before it
MAX_LEDGER = 1024**3  # bytes

_VERIFIER = "urn:sealrun:promotion:v1"


class Promotion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What was promoted where, and its place in the chain."""

    number: Annotated[int, Meta(ge=1)]
    previous: digest.Sha256
    stage: str
    name: str
    version: str
    bundle: digest.Sha256
    judged_at: manifest.Day
    retained_until: manifest.Day

    @property
    def title(self) -> str:
        """NAME-VERSION."""
        return f"{self.name}-{self.version}"


class _Verifier(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: Literal["urn:sealrun:promotion:v1"] = "urn:sealrun:promotion:v1"
    version: dict[Literal["sealrun"], str]


class Summary(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """SLSA's verification summary; `promotion` is an extension field under a URI of ours, as its specification has it."""

    verifier: _Verifier
    time_verified: Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
    resource_uri: str
    policy: sign.Reference
    input_attestations: Annotated[tuple[sign.Reference, ...], Meta(min_length=1, max_length=1)]
    verification_result: Literal["PASSED"] = "PASSED"
    verified_levels: tuple[Literal["SEALRUN_PRODUCTION"]] = ("SEALRUN_PRODUCTION",)
    promotion: Promotion = field(name=_VERIFIER)


class Statement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The in-toto statement of a line; its subjects are those of the release: bundle, report and the candidate's files."""

    type_: StatementType = field(name="_type", default=STATEMENT_TYPE)
    subject: tuple[Resource, ...]
    predicate_type: sign.SummaryType = field(name="predicateType", default="https://slsa.dev/verification_summary/v1")
    predicate: Summary


class Line(Struct, frozen=True, kw_only=True):
    """A verified line: its bytes, and what it says."""

    data: bytes
    statement: Statement

    @property
    def promotion(self) -> Promotion:
        """What was promoted where."""
        return self.statement.predicate.promotion

    @property
    def sha256(self) -> digest.Sha256:
        """The digest that the next line names."""
        return digest.of_bytes(self.data)


def read(path: Path, trusted: Trust) -> tuple[Line, ...]:
    """Return the verified lines of the ledger at *path*; none where there is no file.

    Raises VerificationFailed naming the line that was changed, dropped, exchanged, or signed by nobody who may.
    """
    if not path.exists(follow_symlinks=False):
        return ()
    return parse(files.read_bytes(path, "ledger", limit=MAX_LEDGER), path.name, trusted)


def parse(data: bytes, where: str, trusted: Trust) -> tuple[Line, ...]:
    """Return the verified lines in *data*. Raises VerificationFailed."""
    if not data:
        return ()
    found: list[Line] = []
    previous = START
    texts = data[:-1].split(b"\n")
    for number, (text, envelope) in enumerate(zip(texts, sign.parse(data, where), strict=True), 1):
        here = f"{where}, line {number}"
        statement = manifest.decode(envelope.payload, Statement, here)
        if not may_promote(trusted, envelope, statement.predicate.time_verified[:10]):
            raise VerificationFailed(f"{here}: no valid signature by a key that may promote; see policy/trust")
        promotion = statement.predicate.promotion
        if (promotion.number, promotion.previous) != (number, previous):
            raise VerificationFailed(
                f"{here}: is number {promotion.number} after {promotion.previous}, expected {number} after {previous}; "
                "a line was dropped, added or exchanged"
            )
        found.append(Line(data=text + b"\n", statement=statement))
        previous = found[-1].sha256
    return tuple(found)


def head(lines: Sequence[Line]) -> digest.Sha256:
    """Return the digest of the last line: who notes it elsewhere notices when lines are gone."""
    return lines[-1].sha256 if lines else START


def current(lines: Sequence[Line]) -> dict[tuple[str, str], Line]:
    """Return the last line for each stage and name."""
    return {(line.promotion.stage, line.promotion.name): line for line in lines}


@contextmanager
def writing(path: Path, trusted: Trust) -> Iterator[tuple[tuple[Line, ...], Callable[[bytes], None]]]:
    """Yield the verified lines and a function that adds one, while nobody else writes. What a killed writer left is removed.

    Raises VerificationFailed, or OSError when the new ledger cannot be written; the old one then stands.
    """
    with files.exclusive(path.parent / f"{path.name}.lock"):
        for left in path.parent.iterdir():
            if left.name.startswith(f".{path.name}."):
                left.unlink()
        lines = read(path, trusted)
        yield lines, lambda line: files.write_bytes(path, b"".join([*(known.data for known in lines), line]))


def line(
    found: Verification, *, stage: str, lines: Sequence[Line], time: str, policy: digest.Sha256, sealrun: str, by: "Signer",
) -> bytes:  # fmt: skip
    """Return the signed line that promotes the verified bundle *found* to *stage* after *lines*; *policy* is the digest of the
    rules that allowed it."""
    plan = found.plan
    promotion = Promotion(
        number=len(lines) + 1, previous=head(lines), stage=stage, name=plan.name, version=plan.version, bundle=found.sha256,
        judged_at=plan.judged_at, retained_until=plan.retention.until,
    )  # fmt: skip
    summary = Summary(
        verifier=_Verifier(version={"sealrun": sealrun}),
        time_verified=time,
        resource_uri=f"urn:sealrun:stage:{stage}:{plan.title}",
        policy=sign.Reference(uri="urn:sealrun:policy:promotion", digest=Sha256Set(sha256=policy)),
        input_attestations=(sign.Reference(uri=f"urn:sealrun:release:{plan.title}", digest=Sha256Set(sha256=found.statement)),),
        promotion=promotion,
    )
    return sign.sign([files.readable_json(Statement(subject=found.subject, predicate=summary))], by)
