"""Advisories: OSV records to facts, and whether a fact holds for a version.

Rules: a fact keeps id, aliases, affected versions and ranges, dates and severity of a record, no prose; a record that cannot be
evaluated for PyPI is refused with its reason, never cut down; a version is affected when a record lists it or an ECOSYSTEM
range holds it (PEP 440; introduced "0" is before everything, `fixed` excludes, `last_affected` includes); a local version is
affected also when its public version is; a withdrawn record affects nothing; GIT ranges say nothing about a version. A bound
that is no PEP 440 version comes before every one that is, as OSV orders them, and is taken from a record that lists versions
alone.

This is the judge's own reading. The audit environment has another one in `inside/osv_service.py`, and both must agree.

Source: Open Source Vulnerability format 1.6, "Evaluation"; PEP 440.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, structs
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from sealrun import files
from sealrun.errors import UsageError
from sealrun.outcome import Severity

type AdvisoryId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9:._-]{2,99}$")]
type Alias = Annotated[str, Meta(pattern=r"^[!-~]{1,100}$")]
type Timestamp = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")]

ECOSYSTEM = "PyPI"
_WORDS = {"CRITICAL": "critical", "HIGH": "high", "MODERATE": "medium", "MEDIUM": "medium", "LOW": "low"}


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One change along a range; exactly one field is set."""

    introduced: str | UnsetType = UNSET
    fixed: str | UnsetType = UNSET
    last_affected: str | UnsetType = UNSET
    limit: str | UnsetType = UNSET

    @property
    def kind(self) -> tuple[str, str]:
        """What happens, and at which version."""
        said = [(name, value) for name in self.__struct_fields__ if (value := getattr(self, name)) is not UNSET]
        if len(said) != 1:
            raise ValueError(f"an event says {len(said)} things, expected one")
        return said[0]


class Affected(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a record says of one package (canonical name): the versions listed, and ECOSYSTEM ranges as their events."""

    package: str
    versions: tuple[str, ...] = ()
    ranges: tuple[tuple[Event, ...], ...] = ()


class Rating(Struct, frozen=True, kw_only=True):
    """A severity vector; `type` is OSV's (CVSS_V3, ...)."""

    type: str
    score: str


class Advisory(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The facts of one record. `withdrawn` is "" when it stands."""

    id: AdvisoryId
    aliases: tuple[Alias, ...] = ()
    modified: Timestamp
    withdrawn: str = ""
    severity: Severity = Severity.UNKNOWN
    ratings: tuple[Rating, ...] = ()
    affected: tuple[Affected, ...]

    @property
    def names(self) -> frozenset[str]:
        """Every name it goes by."""
        return frozenset((self.id, *self.aliases))


class _Package(Struct, frozen=True):
    ecosystem: str
    name: str


class _Range(Struct, frozen=True):
    type: Literal["ECOSYSTEM", "GIT"]
    events: Annotated[tuple[dict[str, str], ...], Meta(min_length=1)]


class _Affected(Struct, frozen=True):
    package: _Package | None = None
    versions: tuple[str, ...] | None = ()
    ranges: Any = ()  # of another ecosystem they may be anything
    severity: tuple[Rating, ...] | None = ()


class _Specific(Struct, frozen=True):
    severity: Any = None


class _Record(Struct, frozen=True):
    id: AdvisoryId
    modified: Timestamp
    schema_version: Annotated[str, Meta(pattern=r"^1\.\d+(\.\d+)?$")] = "1.0.0"
    aliases: tuple[Alias, ...] | None = ()
    withdrawn: Timestamp | None = None
    severity: tuple[Rating, ...] | None = ()
    affected: tuple[_Affected, ...] = ()
    database_specific: _Specific | None = None


def parse_record(data: bytes, where: str) -> Advisory:
    """Return the facts of the OSV record *data*. Raises UsageError naming *where* and what cannot be understood."""
    return understand(files.parse_json(data, where), where)


def understand(value: object, where: str) -> Advisory:
    """Return the facts of a decoded OSV record. Raises UsageError naming *where*."""
    record = files.convert(value, _Record, where)
    affected = [block for block in record.affected if block.package and block.package.ecosystem == ECOSYSTEM]
    word = str(record.database_specific.severity if record.database_specific else "")
    ratings = [*(record.severity or ()), *(rating for block in affected for rating in block.severity or ())]
    try:
        return Advisory(
            id=record.id,
            aliases=tuple(sorted({*(record.aliases or ())} - {record.id})),
            modified=record.modified,
            withdrawn=record.withdrawn or "",
            severity=Severity(_WORDS.get(word.upper(), "unknown")),
            ratings=tuple(dict.fromkeys(ratings)),
            affected=tuple(_facts(block, bool(record.withdrawn), where) for block in affected),
        )
    except ValueError as error:
        raise UsageError(f"{where}: {error}; expected an OSV record that can be evaluated") from error


def packages_named(value: object) -> frozenset[str]:
    """Return the canonical names of the packages that a decoded record names, as far as they can be made out."""
    blocks = value.get("affected") if isinstance(value, dict) else None
    packages = [block.get("package") for block in blocks if isinstance(block, dict)] if isinstance(blocks, list) else []
    names = [package.get("name") for package in packages if isinstance(package, dict)]
    return frozenset(canonicalize_name(name) for name in names if isinstance(name, str))


def affects(advisory: Advisory, package: str, version: Version) -> bool:
    """Return whether *advisory* holds for *version* of *package* (canonical name)."""
    if advisory.withdrawn:
        return False
    candidates = {version, Version(version.public)}
    return any(_holds(block, candidate) for block in _blocks(advisory, package) for candidate in candidates)


def fixes(advisory: Advisory, package: str, version: Version) -> tuple[str, ...]:
    """Return the versions above *version* that *advisory* calls fixed, lowest first."""
    said = (event.kind for block in _blocks(advisory, package) for events in block.ranges for event in events)
    return tuple(str(fixed) for fixed in sorted({Version(at) for kind, at in said if kind == "fixed"}) if fixed > version)


def _blocks(advisory: Advisory, package: str) -> Iterator[Affected]:
    return (block for block in advisory.affected if block.package == package)


def _facts(block: _Affected, withdrawn: bool, where: str) -> Affected:
    """Return the facts of one block. Raises ValueError when it says nothing that can be evaluated."""
    assert block.package
    ranges = files.convert(block.ranges or (), tuple[_Range, ...], where)
    listed = tuple(sorted(set(block.versions or ())))
    if not listed and all(found.type != "ECOSYSTEM" for found in ranges) and not withdrawn:
        raise ValueError(f"{block.package.name}: names neither versions nor a range of them")
    events = (_events(found.events, bool(listed)) for found in ranges if found.type == "ECOSYSTEM")
    return Affected(package=canonicalize_name(block.package.name), versions=listed, ranges=tuple(filter(None, events)))


def _events(events: tuple[dict[str, str], ...], lists_versions: bool) -> tuple[Event, ...]:
    """Return the events of a range. Raises ValueError for one without a meaning or without a PEP 440 version."""
    understood = tuple(files.convert(event, Event, "event") for event in events)
    early = [event for event in understood if not _orderly(event)]
    for event in early:
        kind, at = event.kind
        if kind == "limit" or not lists_versions:
            Version(at)  # says what is wrong with it
    if all(event.introduced is UNSET for event in understood):
        raise ValueError("a range has no introduced event")
    return _after(early, understood) if early else understood


def _orderly(event: Event) -> bool:
    kind, at = event.kind
    return (kind, at) in (("introduced", "0"), ("limit", "*")) or _version(at) is not None


def _after(early: Sequence[Event], events: tuple[Event, ...]) -> tuple[Event, ...]:
    """Return *events* as they stand past the *early* ones, which come before every PEP 440 version."""
    zero = Event(introduced="0")
    inside = zero in events
    for event in early:
        inside = event.kind[0] == "introduced"
    rest = tuple(event for event in events if event not in early and event != zero)
    return (zero, *rest) if inside else rest


def _holds(block: Affected, version: Version) -> bool:
    return any(_version(listed) == version for listed in block.versions) or any(_in_range(r, version) for r in block.ranges)


@lru_cache(maxsize=4096)
def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _in_range(events: tuple[Event, ...], version: Version) -> bool:
    limits, intervals = _intervals(events)
    if limits and not any(version < limit for limit in limits):
        return False
    return any(
        (low is None or low <= version) and (high is None or version < high or (closed and version == high))
        for low, high, closed in intervals
    )


type _Interval = tuple[Version | None, Version | None, bool]
"""From (None: the beginning), to (None: no end), and whether the end is part of it."""


@lru_cache(maxsize=4096)
def _intervals(events: tuple[Event, ...]) -> tuple[tuple[Version, ...], tuple[_Interval, ...]]:
    """Return the limits of a range (none when one of them is endless), and where its events, in version order, are inside."""
    said = sorted((event.kind for event in events), key=_position)
    limits = [at for kind, at in said if kind == "limit"]
    found: list[_Interval] = []
    start: tuple[Version | None] | None = None
    for kind, at in said:
        if kind == "introduced":
            start = start or (None if at == "0" else Version(at),)
        elif kind in ("fixed", "last_affected") and start:
            found.append((start[0], Version(at), kind == "last_affected"))
            start = None
    if start:
        found.append((start[0], None, False))
    return () if "*" in limits else tuple(map(Version, limits)), tuple(found)


def _position(event: tuple[str, str]) -> tuple[bool, Version]:
    kind, at = event
    return (False, Version("0")) if (kind, at) == ("introduced", "0") or at == "*" else (True, Version(at))


def condense(advisory: Advisory, packages: frozenset[str]) -> Advisory:
    """Return what *advisory* says of *packages* alone, without the listed versions that one of its ranges holds anyway."""
    return structs.replace(
        advisory,
        affected=tuple(
            structs.replace(block, versions=tuple(listed for listed in block.versions if _says_more(listed, block.ranges)))
            for block in advisory.affected
            if block.package in packages
        ),
    )


def _says_more(listed: str, ranges: tuple[tuple[Event, ...], ...]) -> bool:
    version = _version(listed)
    return version is not None and not any(_in_range(events, version) for events in ranges)


def by_package(advisories: tuple[Advisory, ...]) -> Mapping[str, tuple[Advisory, ...]]:
    """Return the advisories of each package."""
    found: dict[str, tuple[Advisory, ...]] = {}
    for advisory in advisories:
        for name in sorted({block.package for block in advisory.affected}):
            found[name] = (*found.get(name, ()), advisory)
    return found
