"""Laws of the customer edition: what is marked is withheld, what remains verifies, and what could not be checked is said."""

from pathlib import Path

import pytest

import verify_bundle
from sealrun import __main__ as program
from sealrun import digest
from sealrun.errors import UsageError
from sealrun.evidence import bundle, disclosure, sign
from sealrun.evidence.verify import verify
from tests import hostile
from tests.bundles import DISCLOSURE, TITLE, Draft, public_key
from tests.conftest import ROOT

OURS = public_key().fingerprint
REPORT_TOO = DISCLOSURE + b'\n[[withhold]]\nmembers = "report.html"\nreason = "Names customers."\n'


def marked(disclosure_toml: bytes = DISCLOSURE) -> Draft:
    """A bundle whose policy marks two members."""
    return Draft(policy={**Draft().policy, "disclosure.toml": disclosure_toml})


def edition(tmp: Path, draft: Draft) -> tuple[Path, Path]:
    """The bundle and its customer edition."""
    path = draft.write(tmp / "made")
    (tmp / "customer").mkdir()
    return path, disclosure.disclose(path, tmp / "customer")[0]


def test_what_remains_verifies_and_the_rest_is_named(tmp_path: Path) -> None:
    """Both verifiers accept the edition, name what is withheld with its reason, and what they could not check."""
    whole, made = edition(tmp_path, marked())
    found = verify(made, trust=None, fingerprint=OURS, delivery=None)
    theirs = verify_bundle.verified(made, None, OURS, None)
    assert (
        found.withheld
        == theirs.withheld
        == {"evidence/verify/receipt.json": "Holds text.", "policy/gates.toml": "Names people."}
    )
    assert list(found.undone) == theirs.undone
    assert f"sha256:{digest.of_file(whole)}" in found.undone[0]
    assert [line.split(":")[0] for line in found.undone[1:]] == sorted(found.withheld)
    assert verify(whole, trust=None, fingerprint=OURS, delivery=None).undone == ()
    assert b"# gates" in whole.read_bytes() and b"# gates" not in made.read_bytes()


EDITIONS = {name: make for name, code, make in hostile.cases() if name.startswith("edition: ") and code != hostile.REFUSED}


@pytest.mark.parametrize("name", EDITIONS)
def test_both_verifiers_say_alike_what_they_could_not_check(tmp_path: Path, name: str) -> None:
    """Whatever is left out: the same members, the same checks, in the same order."""
    made = EDITIONS[name](tmp_path)
    found, theirs = verify(made, trust=None, fingerprint=OURS, delivery=None), verify_bundle.verified(made, None, OURS, None)
    assert (found.withheld, list(found.undone)) == (theirs.withheld, theirs.undone)


def test_nothing_is_signed_again(tmp_path: Path) -> None:
    """Envelopes and report are the maker's, byte for byte, and the members that remain are."""
    whole, made = edition(tmp_path, marked())
    for name, copy in ((f"{TITLE}{sign.SUFFIX}", f"{TITLE}.customer{sign.SUFFIX}"), (sign.REPORT, sign.REPORT)):
        assert (made.parent / copy).read_bytes() == (whole.parent / name).read_bytes()
    with bundle.opened(whole) as before, bundle.opened(made) as after:
        assert all(after.read(name) == before.read(name) for name in after.members)
        assert len(before.members) - len(after.members) == 2


def test_the_report_is_withheld_where_it_is_marked(tmp_path: Path) -> None:
    """A report that policy marks stays behind, and may not be exchanged for another."""
    _, made = edition(tmp_path, marked(REPORT_TOO))
    assert not (made.parent / sign.REPORT).exists()
    assert "report.html" in verify(made, trust=None, fingerprint=OURS, delivery=None).withheld
    assert verify_bundle.verified(made, None, OURS, None).undone[-1].startswith("report.html")
    (made.parent / sign.REPORT).write_bytes(b"another")
    assert (
        program.main(["verify", str(made), f"--fingerprint={OURS}"])
        == verify_bundle.main([str(made), f"--fingerprint={OURS}"])
        == 5
    )


def test_every_changed_byte_of_an_edition_is_refused(tmp_path: Path) -> None:
    """An edition is as bound as the whole: every 61st byte changed is refused by both verifiers."""
    _, made = edition(tmp_path, marked())
    data = made.read_bytes()
    for offset in range(0, len(data), 61):
        made.write_bytes(data[:offset] + bytes([data[offset] ^ 1 << offset % 8]) + data[offset + 1 :])
        assert verify_bundle.main([str(made), f"--fingerprint={OURS}"]) == 5, offset
        assert program.main(["verify", str(made), f"--fingerprint={OURS}"]) == 5, offset


def test_an_edition_of_an_edition_is_the_same(tmp_path: Path) -> None:
    """Disclosing twice withholds nothing more."""
    _, made = edition(tmp_path, marked())
    with pytest.raises(UsageError, match="marks nothing"):
        disclosure.disclose(made, tmp_path)


def test_nothing_to_withhold(tmp_path: Path) -> None:
    """A bundle whose policy marks nothing in it has no edition of its own."""
    path = Draft().write(tmp_path)
    with pytest.raises(UsageError, match="marks nothing"):
        disclosure.disclose(path, tmp_path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`disclose` verifies before and after, and says what it withheld; an untrusted bundle is not disclosed."""
    path = marked().write(tmp_path / "made")
    out = tmp_path / "customer"
    assert program.main(["disclose", str(path), f"--fingerprint={public_key(2).fingerprint}", f"--out={out}"]) == 5
    assert not out.exists()
    assert program.main(["disclose", str(path), f"--fingerprint={OURS}", f"--out={out}"]) == 0
    assert "policy/gates.toml: Names people." in capsys.readouterr().err


def test_what_policy_marks_exists_in_a_release() -> None:
    """The shipped policy is in the plain form, and leaves every member that a verifier reads."""
    rules = disclosure.parse((ROOT / disclosure.POLICY).read_bytes(), UsageError)
    needed = ["plan.json", "statements/certify.json", "policy/checklist.toml", disclosure.POLICY, "policy/trust/a.pub",
              "evidence/bundle/release.pub", "evidence/bundle/checklist.json", "evidence/model/digests.json"]  # fmt: skip
    assert not disclosure.marked(rules, needed)
    assert set(disclosure.marked(rules, ["evidence/certify/certificate/records/subject.json", "policy/waivers.toml"]))
