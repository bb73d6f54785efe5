"""An old bundle against newer advisories: what became known since, from the bundle alone."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from sealrun import files, reaudit
from sealrun.errors import InputMissing, VerificationFailed
from sealrun.evidence import bundle
from sealrun.outcome import OutcomeKind, Verdict
from sealrun.stages import audit
from tests import locked_project as project
from tests.locked_project import FORMS, FORMS_TWIN, HASH, MINOR, TODAY

LATER = TODAY + timedelta(days=60)
NEW = {
    "id": "PYSEC-2026-50", "modified": "2026-05-01T00:00:00Z", "database_specific": {"severity": "CRITICAL"},
    "affected": [{"package": {"ecosystem": "PyPI", "name": "six"},
                  "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.17.1"}]}]}],
}  # fmt: skip
WAIVER = """
[[waiver]]
control = "audit.clean"
rule = "CVE-2026-0001"
target = "forms-kit"
version = "1.9"
environment = "app"
reason = "The form parser is not called."
owner = "a"
approver = "b"
granted = 2026-03-01
expires = 2026-04-20
status = "affected"
link = "https://example.invalid/forms"
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a project that is gone: one pin clean on its day, one with a waiver."""
    root = project.make(tmp_path_factory.mktemp("made") / "p", locks={"app": f"forms-kit==1.9 {HASH}\nsix==1.17.0 {HASH}\n"})
    project.install(root, "audit", {"pip-audit": project.tool()})
    with (root / "policy" / "waivers.toml").open("a", encoding="utf-8") as stream:
        stream.write(WAIVER)
    ctx = project.context(root)
    assert project.run(audit.STAGE, ctx).verdict is Verdict.PASSED
    members = {
        f"evidence/audit/{name}": (ctx.evidence("audit") / name).read_bytes()
        for name in files.walk_files(ctx.evidence("audit"))
    }
    members |= {f"policy/{name}": (root / "policy" / name).read_bytes() for name in files.walk_files(root / "policy")}
    members["statements/audit.json"] = ctx.statement_path("audit").read_bytes()
    members["release.toml"] = (root / "examples" / "tiny-lm" / "release.toml").read_bytes()
    members["manifest.json"] = b"{}\n"  # a whole one is verified elsewhere
    path = tmp_path_factory.mktemp("kept") / "old.evidence.tar"
    path.write_bytes(bundle.build(members))
    return path


def export(folder: Path, *records: dict[str, Any]) -> Path:
    """A folder of advisory records."""
    folder.mkdir()
    for record in records:
        (folder / f"{record['id']}.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def again(path: Path, folder: Path, *records: dict[str, Any], today: date = LATER - timedelta(days=30)) -> reaudit.Reaudited:
    return reaudit.reaudit(path, folder / "nowhere", export(folder / "records", *records), today)


def test_what_became_known_since_fails_and_is_named(old: Path, tmp_path: Path) -> None:
    """One new advisory over the threshold; what was waived then and still is stays waived."""
    found = again(old, tmp_path, FORMS, FORMS_TWIN, MINOR, NEW)
    assert found.verdict is Verdict.FAILED and found.since == ("PYSEC-2026-50",)
    assert {finding.rule: finding.outcome for finding in found.findings} == {
        "PYSEC-2026-1": OutcomeKind.WAIVED, "PYSEC-2026-50": OutcomeKind.FAILED,
    }  # fmt: skip
    seen = found.outcomes[0].seen
    assert "1 of them since 2026-03-10" in seen and "six 1.17.0" in seen and "fixed in 1.17.1" in seen


def test_nothing_new_passes(old: Path, tmp_path: Path) -> None:
    """The same advisories, a day later: as it was."""
    found = again(old, tmp_path, FORMS, FORMS_TWIN, MINOR, {**NEW, "withdrawn": "2026-05-02T00:00:00Z"})
    assert (found.verdict, found.since) == (Verdict.PASSED, ())


def test_below_the_threshold_is_shown_and_passes(old: Path, tmp_path: Path) -> None:
    """The bundle's own gates say what counts."""
    found = again(old, tmp_path, FORMS, {**NEW, "database_specific": {"severity": "LOW"}})
    assert found.verdict is Verdict.PASSED and found.since == ("PYSEC-2026-50",)


def test_a_waiver_that_lapsed_since_fails(old: Path, tmp_path: Path) -> None:
    """Waivers are judged at the day of the look, not at the release's."""
    found = again(old, tmp_path, FORMS, FORMS_TWIN, NEW | {"withdrawn": "2026-05-02T00:00:00Z"}, today=LATER)
    assert found.verdict is Verdict.FAILED and found.since == ()
    assert "(known then)" in found.outcomes[0].seen


def test_an_alias_published_since_is_not_news(old: Path, tmp_path: Path) -> None:
    """A twin of what was known is the same vulnerability."""
    twin = {**FORMS, "id": "GHSA-new0-new0-new0", "aliases": ["CVE-2026-0001"], "modified": "2026-05-01T00:00:00Z"}
    assert again(old, tmp_path, FORMS, twin).since == ()


def test_older_advisories_prove_nothing(old: Path, tmp_path: Path) -> None:
    """They are an input that is missing, not a pass."""
    with pytest.raises(InputMissing, match="newer"):
        again(old, tmp_path, {**FORMS, "modified": "2026-01-01T00:00:00Z"})


def test_a_record_that_cannot_be_evaluated_fails(old: Path, tmp_path: Path) -> None:
    """It might have been the one."""
    found = again(old, tmp_path, FORMS, {**NEW, "id": "PYSEC-2026-51", "modified": "yesterday"})
    assert found.verdict is Verdict.FAILED and found.outcomes[1].outcome is OutcomeKind.FAILED


def test_the_checkouts_own_advisories_are_used_where_none_are_named(old: Path, tmp_path: Path) -> None:
    """By its local index, or the facts of its policy."""
    root = project.make(tmp_path / "other", locks={"app": f"six==1.17.0 {HASH}\nforms-kit==1.9 {HASH}\n"}, records=(FORMS, NEW))
    assert reaudit.reaudit(old, root, None, LATER).since == ("PYSEC-2026-50",)


def test_evidence_that_its_statement_does_not_name_is_refused(old: Path, tmp_path: Path) -> None:
    """A lock list exchanged in an unsigned copy is seen."""
    with bundle.opened(old) as archive:
        members = {name: archive.read(name) for name in archive.members}
    members["evidence/audit/locks.json"] = members["evidence/audit/locks.json"].replace(b"1.17.0", b"1.18.0")
    other = tmp_path / "other.evidence.tar"
    other.write_bytes(bundle.build(members))
    with pytest.raises(VerificationFailed, match=r"locks\.json"):
        again(other, tmp_path, FORMS)
