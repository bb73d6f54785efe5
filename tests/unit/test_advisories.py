"""The importer: OSV's layout to the facts that the audit runs on."""

import json
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sealrun import advisories
from sealrun.errors import InputMissing, UsageError
from sealrun.reports import snapshot
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
        "sub/PYSEC-2026-1.json": FORMS,
    }
    made = imported(archive(tmp_path / "all.zip", members), tmp_path / "to")
    assert [(each.name, each.packages) for each in made.rejected] == [
        ("PYSEC-2026-4.json", ("forms-kit",)),
        ("PYSEC-2026-5.json", ()),
        ("PYSEC-2026-6.json", ("forms-kit",)),
        ("sub/PYSEC-2026-1.json", ("forms-kit",)),
    ]
    reasons = [each.reason for each in made.rejected]
    assert "modified" in reasons[0] and "not acceptable JSON" in reasons[1]
    assert "holds PYSEC-2026-1" in reasons[2] and "stands twice" in reasons[3]
    assert made.records == 5 and made.facts == 1


def test_what_is_no_snapshot_leaves_the_earlier_one(tmp_path: Path) -> None:
    """A missing, broken, empty or hostile source is an error, and nothing is written."""
    good = imported(archive(tmp_path / "all.zip", named(FORMS)), tmp_path / "to")
    (tmp_path / "torn.zip").write_bytes((tmp_path / "all.zip").read_bytes()[:60])
    (tmp_path / "empty").mkdir()
    hostile = archive(tmp_path / "hostile.zip", {"../PYSEC-2026-1.json": FORMS})
    for source, error in (
        (tmp_path / "nowhere.zip", InputMissing),
        (tmp_path / "torn.zip", UsageError),
        (tmp_path / "empty", UsageError),
        (archive(tmp_path / "none.zip", {}), UsageError),
        (archive(tmp_path / "junk.zip", {"a.json": b"junk"}), UsageError),
        (hostile, UsageError),
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


def test_what_no_lock_pins_is_left_out_by_name(tmp_path: Path) -> None:
    """`run` keeps what the project's locks and the locks given name, and names every other package."""
    root = project.make(tmp_path / "project", locks={"app": f"six==1.17.0 {HASH}\n"})
    extra = tmp_path / "extra.txt"
    extra.write_text(f"Forms.Kit==1.0 {HASH}\n", encoding="utf-8")
    source = archive(tmp_path / "all.zip", named(FORMS, MINOR))
    assert advisories.run(root, source).left_out == ("forms-kit",)
    assert advisories.run(root, source, locks=(extra,)).left_out == ()


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
    assert pinned & set(taken.left_out) == set(), "import the advisories again: nox -s advisories -- --from FILE"
