"""The importer: OSV's layout to the facts that the audit runs on."""

import json
import os
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from sealrun import advisories, digest
from sealrun.advisories import sources
from sealrun.errors import InputMissing, UsageError
from sealrun.reports import index, snapshot
from tests import locked_project as project
from tests.locked_project import FORMS, FORMS_TWIN, HASH, MINOR

NAMES = frozenset({"forms-kit", "six"})


def archive(path: Path, members: dict[str, bytes | Any]) -> Path:
    """A zip in OSV's layout; members that are no bytes become JSON."""
    with zipfile.ZipFile(path, "w") as made:
        for name, content in members.items():
            made.writestr(name, content if isinstance(content, bytes) else json.dumps(content))
    return path


def imported(source: Path, folder: Path) -> snapshot.Snapshot:
    folder.mkdir(exist_ok=True)
    return advisories.import_snapshot(source, folder, NAMES, origin="written for a test", licence="Apache-2.0")


def named(*records: dict[str, Any]) -> dict[str, Any]:
    return {f"{record['id']}.json": record for record in records}


def test_facts_hold_no_prose_and_only_packages_in_scope(tmp_path: Path) -> None:
    """What is kept is id, aliases, ranges, dates and severity; the snapshot says where it comes from."""
    wordy = {**FORMS, "details": "Prose with a secret path", "references": [{"type": "WEB", "url": "https://example.invalid"}]}
    other = {
        **MINOR,
        "id": "PYSEC-2026-3",
        "affected": [{"package": {"ecosystem": "PyPI", "name": "other"}, "versions": ["1"]}],
    }
    made = imported(archive(tmp_path / "all.zip", named(wordy, MINOR, other)), tmp_path / "to")
    text = (tmp_path / "to" / snapshot.FACTS).read_text("utf-8")
    assert "Prose" not in text and "example.invalid" not in text and str(tmp_path) not in text
    assert (made.records, made.facts, made.as_of, made.rejected) == (3, 2, date(2026, 3, 8), ())
    assert made.left_out == ("other",)
    taken, facts = snapshot.load(tmp_path / "to")
    assert taken == made and [advisory.id for advisory in facts.advisories] == ["PYSEC-2026-1", "PYSEC-2026-2"]
    assert facts.advisories[0].affected[0].package == "forms-kit"


def test_zip_and_folder_in_any_order_give_the_same_facts(tmp_path: Path) -> None:
    """The same records are the same facts, byte for byte."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, record in named(MINOR, FORMS_TWIN, FORMS).items():
        (folder / name).write_text(json.dumps(record), encoding="utf-8")
    sources = (
        archive(tmp_path / "a.zip", named(FORMS, FORMS_TWIN, MINOR)),
        archive(tmp_path / "b.zip", named(MINOR, FORMS, FORMS_TWIN)),
        folder,
    )
    facts = set()
    for number, source in enumerate(sources):
        imported(source, tmp_path / f"to-{number}")
        facts.add((tmp_path / f"to-{number}" / snapshot.FACTS).read_bytes())
    assert len(facts) == 1


def test_a_record_that_cannot_be_understood_is_rejected_by_name(tmp_path: Path) -> None:
    """Rejected records are counted and named, with the packages they are about where those can be read."""
    senseless = {**FORMS, "id": "PYSEC-2026-4", "modified": "yesterday"}
    members = {
        **named(FORMS, senseless),
        "PYSEC-2026-5.json": b'{"id": "PYSEC-2026-5", ',
        "PYSEC-2026-6.json": FORMS,
        "PYSEC-2026-7.json": b" " * (sources.MAX_RECORD + 1),
        "PYSEC-2026-8.yaml": b"{id: PYSEC-2026-8, id: PYSEC-2026-9}",
    }
    made = imported(archive(tmp_path / "all.zip", members), tmp_path / "to")
    assert [(each.name, each.packages) for each in made.rejected] == [
        ("PYSEC-2026-4.json", ("forms-kit",)),
        ("PYSEC-2026-5.json", ()),
        ("PYSEC-2026-6.json", ("forms-kit",)),
        ("PYSEC-2026-7.json", ()),
        ("PYSEC-2026-8.yaml", ()),
    ]
    reasons = [each.reason for each in made.rejected]
    assert "modified" in reasons[0] and "not acceptable JSON" in reasons[1]
    assert "stands twice" in reasons[2] and "expected at most" in reasons[3] and "duplicate key" in reasons[4]
    assert made.records == 6 and made.facts == 1


def test_what_is_no_snapshot_leaves_the_earlier_one(tmp_path: Path) -> None:
    """A missing, broken, empty or hostile source is an error, and nothing is written."""
    good = imported(archive(tmp_path / "all.zip", named(FORMS)), tmp_path / "to")
    (tmp_path / "torn.zip").write_bytes((tmp_path / "all.zip").read_bytes()[:60])
    (tmp_path / "empty").mkdir()
    hostile = archive(tmp_path / "hostile.zip", {"../PYSEC-2026-1.json": FORMS})
    mixed = archive(tmp_path / "mixed.zip", {**named(FORMS), "../elsewhere.json": FORMS})
    os.mkfifo(tmp_path / "pipe.zip")
    for source, error in (
        (tmp_path / "nowhere.zip", InputMissing),
        (tmp_path / "torn.zip", UsageError),
        (tmp_path / "empty", UsageError),
        (archive(tmp_path / "none.zip", {}), UsageError),
        (archive(tmp_path / "junk.zip", {"a.json": b"junk"}), UsageError),
        (hostile, UsageError),
        (mixed, UsageError),
        (tmp_path / "pipe.zip", UsageError),
    ):
        with pytest.raises(error):
            imported(source, tmp_path / "to")
    assert snapshot.load(tmp_path / "to")[0] == good


def test_a_link_among_the_members_is_no_record(tmp_path: Path) -> None:
    """A symbolic link in a zip is refused, not read as a record."""
    link = zipfile.ZipInfo("PYSEC-2026-1.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as made:
        made.writestr(link, "/etc/passwd")
    with pytest.raises(UsageError, match="no regular file"):
        imported(tmp_path / "all.zip", tmp_path / "to")


def test_what_no_lock_pins_is_left_out_of_the_embedded_facts(tmp_path: Path) -> None:
    """`embed` keeps what the project's locks name, and names every other package."""
    root = project.make(tmp_path / "project", locks={"app": f"six==1.17.0 {HASH}\n"})
    assert advisories.embed(root, archive(tmp_path / "all.zip", named(FORMS, MINOR))).left_out == ("forms-kit",)


def as_yaml(record: dict[str, Any]) -> bytes:
    """The record as the PyPA database keeps it: plain scalars, lists by dashes."""
    text: str = yaml.safe_dump(record)
    return text.replace("'", "").encode()


def test_yaml_and_the_pypa_tree_are_read_as_json_is(tmp_path: Path) -> None:
    """One set of records in three layouts is one set of facts; beside `vulns` nothing counts; 1.10 stays 1.10."""
    record = {**MINOR, "affected": [{"package": {"ecosystem": "PyPI", "name": "six"}, "versions": ["1.10", "1.16.0"]}]}
    flat, tree = tmp_path / "flat", tmp_path / "tree"
    for path, data in {
        flat / "PYSEC-2026-2.yaml": as_yaml(record),
        tree / "vulns" / "six" / "PYSEC-2026-2.yaml": as_yaml(record),
        tree / ".github" / "vulns" / "workflow.yaml": b"on: push",
        tree / "config.json": b"{}",
        tree / "README.md": b"no record",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    zipped = archive(
        tmp_path / "tree.zip", {"db-main/vulns/six/PYSEC-2026-2.yaml": as_yaml(record), "db-main/setup.json": b"{}"}
    )
    sources = (archive(tmp_path / "all.zip", named(record)), flat, tree, zipped)
    made = [imported(source, tmp_path / f"to-{number}") for number, source in enumerate(sources)]
    assert {(one.records, one.rejected) for one in made} == {(1, ())}
    assert len({one.facts_sha256 for one in made}) == 1
    assert snapshot.load(tmp_path / "to-1")[1].advisories[0].affected[0].versions == ("1.10", "1.16.0")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"id: a\nid: b\n", "duplicate key"),
        (b"id: &x [a]\nother: *x\n", "alias"),
        (b"id: [\n", "not acceptable YAML"),
        (b"--- a\n--- b\n", "not acceptable YAML"),
        (b"\xff\xfe\x00", "not acceptable YAML"),
        (b"!!python/object/apply:os.system [true]", "not acceptable YAML"),
        (b"[" * 5000, "not acceptable YAML"),
        (b"", "Expected `object`"),
    ],
)
def test_yaml_that_is_no_plain_record_is_rejected(tmp_path: Path, data: bytes, why: str) -> None:
    """Duplicate keys, aliases, tags, several documents: rejected by name, the rest is read."""
    made = imported(archive(tmp_path / "all.zip", {**named(FORMS), "PYSEC-2026-9.yaml": data}), tmp_path / "to")
    assert made.records == 2 and [one.name for one in made.rejected] == ["PYSEC-2026-9.yaml"]
    assert why in made.rejected[0].reason


@pytest.mark.parametrize(
    ("change", "packages"),
    [
        ({"schema_version": "2.0.0"}, ("forms-kit",)),
        ({"affected": {"package": {"ecosystem": "PyPI", "name": "forms-kit"}}}, ()),
        ({"affected": [{"package": {"ecosystem": "PyPI", "name": "Forms.Kit"}, "versions": [1.0]}]}, ("forms-kit",)),
        (
            {"affected": [{"package": {"ecosystem": "PyPI", "name": "six"}, "ranges": [{"type": "SEMVER", "events": []}]}]},
            ("six",),
        ),
        ({"modified": 20260308}, ("forms-kit",)),
        ({"aliases": "CVE-2026-0001"}, ("forms-kit",)),
    ],
)
def test_wrong_types_and_another_schema_are_rejected(tmp_path: Path, change: dict[str, Any], packages: tuple[str, ...]) -> None:
    """What cannot be evaluated is named with the packages it is about."""
    wrong = {**FORMS, "id": "PYSEC-2026-9", **change}
    made = imported(archive(tmp_path / "all.zip", named(MINOR, wrong)), tmp_path / "to")
    assert [one.packages for one in made.rejected] == [packages]


def test_what_another_ecosystem_says_in_its_own_way_is_no_flaw(tmp_path: Path) -> None:
    """A record about two ecosystems is read for ours."""
    other = {"package": {"ecosystem": "npm", "name": "x"}, "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}]}
    made = imported(archive(tmp_path / "all.zip", named({**FORMS, "affected": [*FORMS["affected"], other]})), tmp_path / "to")
    assert (made.rejected, made.facts) == ((), 1)


# The local index


def refreshed(root: Path, source: Path | str, **options: str) -> snapshot.Snapshot:
    root.mkdir(exist_ok=True)
    return advisories.refresh(root, str(source), **options)


def test_the_index_holds_every_package_and_needs_no_commit(tmp_path: Path) -> None:
    """What is asked about it comes back, nothing is left out, and the snapshot says where it is from."""
    source = archive(tmp_path / "all.zip", named(FORMS, FORMS_TWIN, MINOR))
    made = refreshed(tmp_path / "p", source, licence="Apache-2.0")
    taken, facts = index.known(tmp_path / "p", ["forms-kit", "nothing"])
    assert [advisory.id for advisory in facts.advisories] == ["GHSA-aaaa-bbbb-cccc", "PYSEC-2026-1"]
    assert (taken.left_out, taken.facts, taken.records, taken.origin) == ((), 2, 3, "all.zip")
    assert (taken.sha256, taken.as_of) == (digest.of_file(source), made.as_of)
    assert index.latest(tmp_path / "p") == made


def test_a_digest_that_is_not_the_one_named_is_refused(tmp_path: Path) -> None:
    """The earlier index stays."""
    source = archive(tmp_path / "all.zip", named(FORMS))
    made = refreshed(tmp_path / "p", source, sha256=f"sha256:{digest.of_file(source)}")
    other = archive(tmp_path / "other.zip", named(MINOR))
    with pytest.raises(UsageError, match="expected"):
        refreshed(tmp_path / "p", other, sha256="0" * 64)
    with pytest.raises(UsageError, match="none of 0 records"):
        refreshed(tmp_path / "p", archive(tmp_path / "none.zip", {}))
    assert index.latest(tmp_path / "p") == made


@pytest.mark.parametrize("how", ["torn", "edited", "gone", "junk"])
def test_an_index_that_was_touched_is_never_asked(tmp_path: Path, how: str) -> None:
    """Truncated by a byte or by half, edited, gone or junk: wrong input, never fewer findings."""
    root = tmp_path / "p"
    refreshed(root, archive(tmp_path / "all.zip", named(FORMS, MINOR)))
    (path,) = (root / index.FOLDER).glob("*.sqlite")
    data = path.read_bytes()
    spoilt = {"torn": data[:-1], "edited": data.replace(b"2.0", b"0.1"), "junk": b"SQLite format 3"}
    path.unlink() if how == "gone" else path.write_bytes(spoilt[how])
    with pytest.raises(UsageError, match="torn or changed"):
        index.known(root, ["forms-kit"])


def test_what_was_imported_is_used_until_the_policy_has_something_newer(tmp_path: Path) -> None:
    """Whoever imports an old export means it; a machine's old index does not hide what a commit brought."""
    root = project.make(tmp_path / "p", records=(FORMS, MINOR))
    old = {**FORMS, "modified": "2026-01-01T00:00:00Z"}
    refreshed(root, archive(tmp_path / "old.zip", named(old)))
    assert index.known(root, ["six"])[0].origin == "old.zip"
    project.import_records(root, (FORMS, MINOR))
    assert index.known(root, ["six"])[0].origin == "old.zip", "the same snapshot again is nothing newer"
    project.import_records(root, ({**FORMS, "modified": "2026-03-09T00:00:00Z"},))
    assert index.known(root, ["six"])[0].origin == "written for a test"
    assert index.latest(root).as_of == date(2026, 3, 9)
    refreshed(root, archive(tmp_path / "new.zip", named({**FORMS, "modified": "2026-03-10T00:00:00Z"})))
    assert index.known(root, ["six"])[0].origin == "new.zip"


def test_facts_changed_by_hand_are_refused(tmp_path: Path) -> None:
    """Facts belong to one snapshot, by digest."""
    imported(archive(tmp_path / "all.zip", named(FORMS)), tmp_path / "to")
    project.edit(tmp_path / "to" / snapshot.FACTS, '"fixed": "2.0"', '"fixed": "0.1"')
    with pytest.raises(UsageError, match="expected"):
        snapshot.load(tmp_path / "to")


def test_the_embedded_snapshot_is_whole_and_covers_every_lock_of_this_project() -> None:
    """The default that ships names its origin and licence, and no advisory of a locked package was left out."""
    from sealrun.reports.lockfiles import read_locks

    taken, facts = snapshot.load(project.ROOT / snapshot.FOLDER)
    assert "PyPA" in taken.origin and taken.licence == "CC-BY-4.0" and taken.facts == len(facts.advisories) > 0
    pinned = {pin.name for lock in read_locks(project.ROOT) for pin in lock.pins}
    assert pinned & set(taken.left_out) == set(), "import the advisories again: nox -s advisories -- --embed --from FILE"
