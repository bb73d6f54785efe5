"""When an advisory holds for a version: the judge's reading, the service's, and a third one written here."""

import functools
import json
import os
import random
import runpy
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion
from packaging.version import Version as ParsedVersion

from sealrun import files
from sealrun.errors import UsageError
from sealrun.outcome import Severity
from sealrun.reports import osv
from sealrun.reports.snapshot import Facts

Version = functools.cache(ParsedVersion)
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "sealrun" / "inside" / "osv_service.py"


def record(**fields: Any) -> dict[str, Any]:
    """A record about `pkg`, valid until *fields* say otherwise."""
    block = {"package": {"ecosystem": "PyPI", "name": fields.pop("name", "pkg")}}
    for field in ("versions", "ranges"):
        if field in fields:
            block[field] = fields.pop(field)
    return {"id": "PYSEC-2026-7", "modified": "2026-01-01T00:00:00Z", "affected": [block], **fields}


def span(*events: dict[str, str], kind: str = "ECOSYSTEM") -> dict[str, Any]:
    """A range with *events*."""
    return {"type": kind, "events": list(events)}


def parse(value: Any) -> osv.Advisory:
    return osv.parse_record(json.dumps(value).encode(), "record")


@pytest.fixture(scope="module")
def service() -> Callable[..., Any]:
    """The advisories of the service's own script."""
    return runpy.run_path(str(SCRIPT))["Advisories"]


def answered(service: Callable[..., Any], folder: Path, advisories: tuple[osv.Advisory, ...]) -> Any:
    """The service over *advisories*, read from a file as it does."""
    path = folder / "facts.json"
    files.write_json(path, Facts(advisories=advisories))
    return service(path)


def plain(value: dict[str, Any], name: str, version: str) -> bool:
    """OSV's evaluation read off the specification, over the raw record: the third opinion."""
    if value.get("withdrawn"):
        return False
    for text in {version, Version(version).public}:
        at = Version(text)
        for block in value.get("affected", []):
            package = block.get("package", {})
            if package.get("ecosystem") != "PyPI" or canonicalize_name(package["name"]) != name:
                continue
            for listed in block.get("versions", []):
                try:
                    if Version(listed) == at:
                        return True
                except InvalidVersion:
                    pass
            for item in block.get("ranges", []):
                if item["type"] == "ECOSYSTEM" and within(item["events"], at):
                    return True
    return False


def within(events: list[dict[str, str]], at: ParsedVersion) -> bool:
    """Split a range into intervals, oldest first, and look for one around *at*."""
    lowest, legacy = Version("0.dev0"), Version("0.dev1")  # before every version there is, in this order

    def place(event: dict[str, str]) -> ParsedVersion:
        ((kind, text),) = event.items()
        return lowest if (kind, text) == ("introduced", "0") else Version(text) if valid(text) else legacy

    start: ParsedVersion | None = None
    for event in sorted(events, key=place):
        ((kind, _),) = event.items()
        here = place(event)
        if kind == "introduced" and start is None:
            start = here
        elif kind == "fixed" and start is not None:
            if start <= at < here:
                return True
            start = None
        elif kind == "last_affected" and start is not None:
            if start <= at <= here:
                return True
            start = None
    return start is not None and start <= at


CASES = [
    (record(ranges=[span({"introduced": "0"}, {"fixed": "2.0"})]), "1.9", True),
    (record(ranges=[span({"introduced": "0"}, {"fixed": "2.0"})]), "2.0", False),
    (record(ranges=[span({"introduced": "0"}, {"fixed": "2.0"})]), "2.0rc1", True),
    (record(ranges=[span({"introduced": "0"}, {"fixed": "2.0"})]), "0.dev0", True),
    (record(ranges=[span({"introduced": "0"}, {"fixed": "2.0"})]), "1!0.1", False),
    (record(ranges=[span({"introduced": "1.0"}, {"last_affected": "1.5"})]), "1.5", True),
    (record(ranges=[span({"introduced": "1.0"}, {"last_affected": "1.5"})]), "1.5.post1", False),
    (record(ranges=[span({"introduced": "1.0"}, {"last_affected": "1.5"})]), "1.5+cpu", True),
    (record(ranges=[span({"fixed": "3.0"}, {"introduced": "2.0"}, {"introduced": "0"}, {"fixed": "1.0"})]), "1.5", False),
    (record(ranges=[span({"fixed": "3.0"}, {"introduced": "2.0"}, {"introduced": "0"}, {"fixed": "1.0"})]), "2.1", True),
    (record(ranges=[span({"introduced": "1.0"})]), "99", True),
    (record(ranges=[span({"introduced": "0"}), span({"introduced": "0"}, {"fixed": "1"})]), "5", True),
    (record(versions=["1.0.0", "0.7.10p1"]), "1.0", True),
    (record(versions=["1.0"]), "1.0+local.1", True),
    (record(versions=["1.0"]), "1.0.1", False),
    (record(versions=["1.0"], name="PKG"), "1.0", True),
    (record(versions=["1.0"], name="other"), "1.0", False),
    (record(versions=["1.0"], withdrawn="2026-02-01T00:00:00Z"), "1.0", False),
    (record(versions=["1.0"], ranges=[span({"introduced": "0"}, kind="GIT")]), "0.9", False),
    (record(versions=["1.0"], ranges=[span({"introduced": "0"}, {"fixed": "0.2-n653"})]), "1.0", True),
    (record(versions=["1.0"], ranges=[span({"introduced": "0"}, {"fixed": "0.2-n653"})]), "0.1", False),
    (record(versions=["1.0"], ranges=[span({"introduced": "2019-09-12"}, {"fixed": "0.9"})]), "0.5", True),
    (record(versions=["1.0"], ranges=[span({"introduced": "0"}, {"fixed": "x-1"}, {"introduced": "2"})]), "2.5", True),
    (record(versions=["1.0"], ranges=[span({"introduced": "0"}, {"last_affected": "x-1"}, {"introduced": "2"})]), "1.5", False),
]


@pytest.mark.parametrize(("value", "version", "expected"), CASES)
def test_an_advisory_holds_by_the_rules_of_osv(
    value: dict[str, Any], version: str, expected: bool, service: Callable[..., Any], tmp_path: Path
) -> None:
    """Judge, service and plain reading give the documented answer, before and after condensing."""
    advisory = parse(value)
    condensed = osv.condense(advisory, frozenset({"pkg"}))
    assert osv.affects(advisory, "pkg", Version(version)) is expected
    assert osv.affects(condensed, "pkg", Version(version)) is expected
    assert plain(value, "pkg", version) is expected
    assert bool(answered(service, tmp_path, (condensed,)).about("pkg", version)) is expected


def test_a_limit_ends_what_a_range_says(service: Callable[..., Any], tmp_path: Path) -> None:
    """A version at or past every limit is outside, whatever else the range says."""
    advisory = parse(record(ranges=[span({"introduced": "0"}, {"limit": "2"})]))
    served = answered(service, tmp_path, (advisory,))
    for version, expected in (("1.9", True), ("2", False), ("3", False)):
        assert osv.affects(advisory, "pkg", Version(version)) is expected
        assert bool(served.about("pkg", version)) is expected


def test_several_blocks_of_one_record_count_each(service: Callable[..., Any], tmp_path: Path) -> None:
    """A record may say something of several packages, and of one package twice."""
    value = record(versions=["1.0"])
    value["affected"] += [record(versions=["3.0"])["affected"][0], record(versions=["2.0"], name="other")["affected"][0]]
    advisory = parse(value)
    served = answered(service, tmp_path, (advisory,))
    for name, version, expected in (("pkg", "1.0", True), ("pkg", "3.0", True), ("pkg", "2.0", False), ("other", "2.0", True)):
        assert osv.affects(advisory, name, Version(version)) is expected
        assert bool(served.about(name, version)) is expected


def test_fixed_versions_are_those_above_in_order() -> None:
    """What to upgrade to is above what is installed."""
    advisory = parse(record(ranges=[span({"introduced": "0"}, {"fixed": "1.10"}, {"introduced": "2.0"}, {"fixed": "2.9"})]))
    assert osv.fixes(advisory, "pkg", Version("1.9")) == ("1.10", "2.9")
    assert osv.fixes(advisory, "pkg", Version("2.0")) == ("2.9",)


def test_generated_ranges_are_read_alike_three_times(service: Callable[..., Any], tmp_path: Path) -> None:
    """Over generated records, judge, service and plain reading agree on every version."""
    chance = random.Random(20260310)
    pool = ["0.1", "0.9", "1.0a1", "1.0", "1.0.post1", "1.5", "2.0rc1", "2.0", "2.0+l", "1!0.1", "3.dev1"]
    values = [generated(chance, number, pool) for number in range(200)]
    advisories = tuple(parse(value) for value in values)
    served = answered(service, tmp_path, tuple(osv.condense(a, frozenset({"pkg"})) for a in advisories))
    for version in pool:
        expected = sorted(value["id"] for value in values if plain(value, "pkg", version))
        assert sorted(a.id for a in advisories if osv.affects(a, "pkg", Version(version))) == expected
        assert [found["id"] for found in served.about("pkg", version)] == expected
        assert expected, f"{version}: no record holds, the comparison would be empty"


def generated(chance: random.Random, number: int, pool: list[str]) -> dict[str, Any]:
    """A record with alternating events at distinct versions, in any order, and perhaps a list."""
    places = sorted(chance.sample(pool, chance.choice([1, 2, 3, 4])), key=Version)
    ends = [chance.choice(["fixed", "last_affected"]) for _ in places]
    events = [{"introduced": at} if not index % 2 else {ends[index]: at} for index, at in enumerate(places)]
    chance.shuffle(events)
    return record(id=f"PYSEC-2026-{1000 + number}", ranges=[span(*events)], versions=chance.sample(pool, chance.choice([0, 2])))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (record(ranges=[span({"introduced": "0"}, {"fixed": "not-a-version"})]), "Invalid version"),
        (record(ranges=[span({"fixed": "1.0"})]), "no introduced"),
        (record(ranges=[span({"introduced": "0", "fixed": "1.0"})]), "says 2 things"),
        (record(ranges=[span({"introduced": "0"}, kind="SEMVER")]), "SEMVER"),
        (record(ranges=[span({"vanished": "1"})]), "vanished"),
        (record(ranges=[{"type": "ECOSYSTEM", "events": []}]), "length >= 1"),
        (record(), "neither versions nor a range"),
        (record(versions=[1]), "Expected `str`"),
        (record(versions=["1"], schema_version="2.0.0"), "schema_version"),
        (record(versions=["1"], modified="yesterday"), "modified"),
        (record(versions=["1"], id="../x"), "id"),
        ([], "Expected `object`"),
    ],
)
def test_a_record_that_cannot_be_evaluated_is_refused(value: Any, reason: str) -> None:
    """Nothing is cut down to what happens to be understood."""
    with pytest.raises(UsageError, match=reason):
        parse(value)


def test_broken_json_is_refused() -> None:
    """Duplicate keys and truncated text are no record."""
    for data in (b'{"id": "PYSEC-1", "id": "PYSEC-2"}', b'{"id": ', b"\xff", b""):
        with pytest.raises(UsageError):
            osv.parse_record(data, "record")


def test_severity_words_become_levels_and_none_is_unknown() -> None:
    """A word of the source is a level; no word is no level."""
    assert parse(record(versions=["1"], database_specific={"severity": "MODERATE"})).severity is Severity.MEDIUM
    assert parse(record(versions=["1"])).severity is Severity.UNKNOWN


@pytest.mark.heavy
def test_the_whole_corpus_is_read_alike(service: Callable[..., Any], tmp_path: Path) -> None:
    """For every version that a real snapshot names, and those beside, the three readings agree (SEALRUN_ADVISORY_CORPUS)."""
    corpus = os.environ.get("SEALRUN_ADVISORY_CORPUS")
    if not corpus:
        pytest.skip("SEALRUN_ADVISORY_CORPUS names no zip of OSV records")
    values, advisories = [], []
    with zipfile.ZipFile(corpus) as archive:
        for name in archive.namelist():
            value = json.loads(archive.read(name))
            try:
                advisory = osv.understand(value, name)
            except UsageError:
                continue
            packages = frozenset(block.package for block in advisory.affected)
            advisories.append(osv.condense(advisory, packages))
            values.append((value, packages))
    raw: dict[str, list[dict[str, Any]]] = {}
    for value, packages in values:
        for package in packages:
            raw.setdefault(package, []).append(value)
    served = answered(service, tmp_path, tuple(advisories))
    facts = osv.by_package(tuple(advisories))
    pairs = 0
    for package, about in raw.items():
        for version in sorted(versions_of(about)):
            expected = sorted({value["id"] for value in about if plain(value, package, version)})
            assert sorted(a.id for a in facts[package] if osv.affects(a, package, Version(version))) == expected
            assert [found["id"] for found in served.about(package, version)] == expected
            pairs += 1
    assert pairs > 1000


def versions_of(about: list[dict[str, Any]]) -> set[str]:
    """Every version that records about one package list, every bound of their ranges, and what lies just beside these."""
    blocks = [block for value in about for block in value["affected"]]
    listed = {version for block in blocks for version in block.get("versions", []) if valid(version)}
    ranges = [item for block in blocks for item in block.get("ranges", []) if item["type"] == "ECOSYSTEM"]
    bounds = {text for item in ranges for event in item["events"] for text in event.values() if valid(text)}
    beside = {f"{Version(bound).base_version}{end}" for bound in bounds for end in (".dev0", "rc1", ".post1", "+local.1")}
    return listed | bounds | beside | {f"1!{bound}" for bound in bounds if "!" not in bound} | {"0", "99999"}


def valid(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
