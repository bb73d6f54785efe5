"""VEX of others: what somebody else says of a vulnerability in a package, and when that counts.

Rules: a document counts only from an author in `vex.trusted`; a claim excuses only `not_affected` with a justification, about
exactly one package in one version (a purl without qualifiers), with a date that has come; of several claims the newest counts,
and of two of one date the one that excuses nothing; whatever does not count is named, never silently passed over. A document
that cannot be read is wrong configuration.

Sources: OpenVEX 0.2.0; CycloneDX 1.4 to 1.7 (`vulnerabilities`); purl specification, type pypi.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from msgspec import Struct, field
from packaging.utils import canonicalize_name, canonicalize_version
from packaging.version import InvalidVersion, Version

from sealrun import files
from sealrun.errors import UsageError
from sealrun.policy.model import Claim, Justification, VexGate

FOLDER = "vex"
_PURL = re.compile(r"pkg:pypi/(?P<name>[^@/?#]+)@(?P<version>[^@/?#]+)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def load_claims(policy: Path) -> tuple[Claim, ...]:
    """Return the claims of every document in `vex/` of *policy*. Raises UsageError."""
    folder = policy / FOLDER
    names = [name for name in files.walk_files(folder) if name.endswith(".json")] if folder.is_dir() else []
    return tuple(claim for name in names for claim in parse(files.read_bytes(folder / name, "vex"), f"policy/{FOLDER}/{name}"))


def parse(data: bytes, where: str) -> tuple[Claim, ...]:
    """Return the claims of an OpenVEX or CycloneDX document. Raises UsageError naming *where*."""
    value = files.parse_json(data, where)
    kind = value if isinstance(value, dict) else {}
    if str(kind.get("@context", "")).startswith("https://openvex.dev/ns"):
        return tuple(_openvex(files.convert(value, _OpenVex, where), where))
    if kind.get("bomFormat") == "CycloneDX":
        return tuple(_cyclonedx(files.convert(value, _CycloneDx, where), where))
    raise UsageError(f"{where}: neither OpenVEX nor CycloneDX; expected one of these, or remove the file")


def excuse(
    claims: Sequence[Claim], gate: VexGate, names: frozenset[str], package: str, version: str, today: date
) -> tuple[Claim | None, tuple[str, ...]]:
    """Return the claim that excuses *names* in *version* of *package*, and why others about it do not count."""
    product = (package, canonicalize_version(version))
    about = [claim for claim in claims if claim.names & names and (claim.package, claim.version) == product]
    flaws = {claim: _flaw(claim, gate, today) for claim in about}
    counting = [claim for claim in about if not flaws[claim]]
    latest = max(counting, key=lambda claim: (claim.said, not _unaffected(claim)), default=None)
    said = tuple(sorted(f"{claim.file}: {flaw}" for claim, flaw in flaws.items() if flaw))
    return (latest if latest and _unaffected(latest) else None), said


def _unaffected(claim: Claim) -> bool:
    return claim.status == "not_affected" and bool(claim.justification)


def _flaw(claim: Claim, gate: VexGate, today: date) -> str:
    if not set(claim.authors) & set(gate.trusted):
        return f"by {' and '.join(claim.authors) or 'nobody'}, expected one of vex.trusted"
    if not _DATE.match(claim.said) or claim.said[:10] > today.isoformat():
        return f"dated {claim.said or 'never'}, expected a day up to {today}"
    if claim.status == "not_affected" and not claim.justification:
        return "says not_affected without a justification"
    return ""


def _product(purl: str) -> tuple[str, str] | None:
    """Return canonical name and version of the one package that *purl* is, None for anything else."""
    found = _PURL.fullmatch(purl)
    if found is None:
        return None
    try:
        version = canonicalize_version(Version(unquote(found["version"])))
    except InvalidVersion:
        return None
    return canonicalize_name(unquote(found["name"])), version


class _Identified(Struct, frozen=True):
    id: str = field(name="@id", default="")
    identifiers: Mapping[str, str] = {}
    subcomponents: tuple[Any, ...] = ()


class _Named(Struct, frozen=True):
    name: str
    aliases: tuple[str, ...] = ()


class _Statement(Struct, frozen=True):
    vulnerability: _Named
    status: Literal["not_affected", "affected", "fixed", "under_investigation"]
    products: tuple[_Identified, ...] = ()
    justification: Literal[""] | Justification = ""
    timestamp: str = ""
    last_updated: str = ""


class _OpenVex(Struct, frozen=True):
    author: str
    timestamp: str
    statements: tuple[_Statement, ...]
    last_updated: str = ""


def _openvex(document: _OpenVex, where: str) -> Iterator[Claim]:
    for said in document.statements:
        for product in said.products:
            exact = _product(product.identifiers.get("purl") or product.id)
            if exact and not product.subcomponents:  # with parts, it is they that are meant, inside of this product
                yield Claim(
                    names=frozenset((said.vulnerability.name, *said.vulnerability.aliases)), package=exact[0], version=exact[1],
                    status=said.status, justification=said.justification, authors=(document.author,), file=where,
                    said=said.last_updated or said.timestamp or document.last_updated or document.timestamp,
                )  # fmt: skip


class _Party(Struct, frozen=True):
    name: str = ""
    email: str = ""


class _Metadata(Struct, frozen=True):
    timestamp: str = ""
    authors: tuple[_Party, ...] = ()
    manufacturer: _Party = _Party()
    supplier: _Party = _Party()


class _Component(Struct, frozen=True, rename={"ref": "bom-ref"}):
    ref: str = ""
    purl: str = ""
    components: tuple["_Component", ...] = ()


class _Range(Struct, frozen=True):
    version: str = ""
    status: str = "affected"


class _Affects(Struct, frozen=True):
    ref: str
    versions: tuple[_Range, ...] = ()


class _Analysis(Struct, frozen=True, rename="camel"):
    state: str = ""
    justification: str = ""
    first_issued: str = ""
    last_updated: str = ""


class _Reference(Struct, frozen=True):
    id: str = ""


class _Vulnerability(Struct, frozen=True):
    id: str
    references: tuple[_Reference, ...] = ()
    analysis: _Analysis = _Analysis()
    affects: tuple[_Affects, ...] = ()


class _CycloneDx(Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    components: tuple[_Component, ...] = ()
    vulnerabilities: tuple[_Vulnerability, ...] = ()


_STATES = {"not_affected": "not_affected", "in_triage": "under_investigation", "resolved": "fixed",
           "resolved_with_pedigree": "fixed", "exploitable": "affected", "false_positive": "affected"}  # fmt: skip
_WHY = (
    "code_not_present", "code_not_reachable", "requires_configuration", "requires_dependency", "requires_environment",
    "protected_by_compiler", "protected_at_runtime", "protected_at_perimeter", "protected_by_mitigating_control",
)  # fmt: skip


def _cyclonedx(document: _CycloneDx, where: str) -> Iterator[Claim]:
    purls = dict(_purls(document.components))
    meta = document.metadata
    parties = (*meta.authors, meta.manufacturer, meta.supplier)
    authors = tuple(dict.fromkeys(name for party in parties for name in (party.name, party.email) if name))
    for found in document.vulnerabilities:
        said = found.analysis
        for affects in found.affects:
            exact = _product(purls.get(_local(affects.ref), _local(affects.ref)))
            if exact and _covers(affects, exact[1]):
                yield Claim(
                    names=frozenset((found.id, *(reference.id for reference in found.references if reference.id))),
                    package=exact[0], version=exact[1], status=_STATES.get(said.state, "affected"),
                    justification=said.justification if said.justification in _WHY else "", authors=authors, file=where,
                    said=said.last_updated or said.first_issued or meta.timestamp,
                )  # fmt: skip


def _purls(components: Sequence[_Component]) -> Iterator[tuple[str, str]]:
    for component in components:
        yield component.ref, component.purl
        yield from _purls(component.components)


def _local(ref: str) -> str:
    """Return the reference inside of a document: what stands behind the `#` of a BOM-Link."""
    return unquote(ref.partition("#")[2]) if ref.startswith("urn:cdx:") else ref


def _covers(affects: _Affects, version: str) -> bool:
    """Whether the versions that are listed, if any are, list *version* as unaffected."""
    return not affects.versions or any(
        canonicalize_version(v.version) == version and v.status == "unaffected" for v in affects.versions
    )
