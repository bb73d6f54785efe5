"""Laws of keys over time: rotation, revocation, a second person's signature."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sealrun.errors import UsageError, VerificationFailed
from sealrun.evidence import keys, revocation, rotation, signers
from sealrun.outcome import OutcomeKind, Verdict
from tests.bundles import Draft, key_file, public_key

type Verify = Callable[..., tuple[int, str]]
DAY = "2026-01-15"  # of the judgement of a draft


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The key folder of a user whose release key is the test key 1."""
    place = tmp_path / "keys"
    place.mkdir(mode=0o700)
    monkeypatch.setenv("SEALRUN_KEYS", str(place))
    key_file(place).rename(place / "release.pem")
    keys.release()
    return place


def code(path: Path, **named: object) -> int:
    """The exit code of both verifiers."""
    from tests.unit.test_verify import ours, theirs

    codes = {verifier(path, **named)[0] for verifier in (ours, theirs)}  # type: ignore[arg-type]
    assert len(codes) == 1
    return codes.pop()


def test_a_rotation(folder: Path, tmp_path: Path) -> None:
    """The new key signs; the old one is kept, and says until when it is good and who takes its place."""
    out = tmp_path / "out"
    out.mkdir()
    made = Draft().write(tmp_path / "made")
    old, new, written = rotation.rotate("2026-01-16", out)
    assert old == public_key(1) != new == signers.release_public()
    assert (
        keys.parse_public((out / "release.pub").read_bytes(), "")
        == new
        == keys.parse_public((folder / "release.pub").read_bytes(), "")
    )
    assert keys.public_key(folder / f"release-{old.keyid[:16]}.pem") == old
    (found,) = revocation.load(written)
    assert (found.said.reason, found.said.successor) == ("superseded", new.keyid)
    assert code(made, revoked=written) == 0
    later = Draft(judged_at="2026-01-16").write(tmp_path / "later")
    assert code(later, revoked=written) == 5


def test_a_rotation_that_cannot_be_written_changes_nothing(folder: Path, tmp_path: Path) -> None:
    """Where the farewell cannot be written, the old key stays the release key."""
    with pytest.raises(OSError, match="none"):
        rotation.rotate(DAY, tmp_path / "none")
    assert signers.release_public() == public_key(1)
    _, new, _ = rotation.rotate(DAY, tmp_path)
    assert signers.release_public() == new


@pytest.mark.parametrize("reason", ["compromised", "withdrawn"])
def test_a_key_and_a_bundle_are_revoked(folder: Path, tmp_path: Path, reason: revocation.Reason) -> None:
    """What the release key revokes is refused by both verifiers, and nothing else."""
    made, other = Draft().write(tmp_path / "made"), Draft(judged_at="2026-01-16").write(tmp_path / "other")
    bundle = rotation.revoke(tmp_path, key=None, bundle=made, reason=reason, since=None, successor=None, note="See the page.")
    assert (code(made, revoked=bundle), code(other, revoked=bundle)) == (5, 0)
    key = rotation.revoke(tmp_path, key=None, bundle=None, reason=reason, since=None, successor=None, note="")
    assert (code(made, revoked=key), code(other, revoked=key)) == (5, 5)


def test_what_is_no_revocation_is_not_written(folder: Path, tmp_path: Path) -> None:
    """A reason that does not fit, two things at once: wrong use, and no file."""
    made = Draft().write(tmp_path / "made")
    for values in ({"reason": "superseded"}, {"reason": "superseded", "since": DAY, "bundle": made}, {"key": made, "bundle": made},
                   {"since": "yesterday"}):  # fmt: skip
        given = {"key": None, "bundle": None, "reason": "withdrawn", "since": None, "successor": None, "note": "", **values}
        with pytest.raises(UsageError):
            rotation.revoke(tmp_path, **given)  # type: ignore[arg-type]
    assert not list(tmp_path.glob(f"*{revocation.SUFFIX}"))


def test_a_second_signature(folder: Path, tmp_path: Path) -> None:
    """Whom the bundle knows may sign it too; then either suffices, and both make two. Signing twice changes nothing more."""
    known = {**Draft().policy, "trust/1.pub": public_key(1).pem, "trust/2.pub": public_key(2).pem}
    made = Draft(seed=2, policy=known).write(tmp_path / "made")
    trust = tmp_path / "trust"
    trust.mkdir()
    for seed in (1, 2):
        (trust / f"{seed}.pub").write_bytes(public_key(seed).pem)
    tables = "".join(f'[[key]]\nfile = "{seed}.pub"\nroles = "release"\n' for seed in (1, 2))
    (trust / "trust.toml").write_text(f'format = "sealrun/trust-v1"\nthreshold = "2"\n{tables}')
    assert code(made, trust=trust, fingerprint=None) == 5
    found = rotation.cosign(made, public_key(2).fingerprint)
    assert found.signers == (public_key(1).fingerprint,)
    assert code(made, trust=trust, fingerprint=None) == code(made, fingerprint=public_key(2).fingerprint) == 0
    before = made.with_name("tiny-1.0.0.intoto.jsonl").read_bytes()
    rotation.cosign(made, public_key(2).fingerprint)
    assert made.with_name("tiny-1.0.0.intoto.jsonl").read_bytes() == before


def test_who_does_not_cosign(folder: Path, tmp_path: Path) -> None:
    """Nobody signs what does not verify, what does not know his key, or what says no."""
    unknown = Draft(seed=2).write(tmp_path / "unknown")
    with pytest.raises(UsageError, match="not in policy/trust"):
        rotation.cosign(unknown, public_key(2).fingerprint)
    with pytest.raises(VerificationFailed):
        rotation.cosign(unknown, public_key(3).fingerprint)
    failed = Draft(seed=2, kinds={"audit.clean": OutcomeKind.FAILED}).write(tmp_path / "failed")
    before = failed.with_name("tiny-1.0.0.intoto.jsonl").read_bytes()
    assert rotation.cosign(failed, public_key(2).fingerprint).verdict is Verdict.FAILED
    assert failed.with_name("tiny-1.0.0.intoto.jsonl").read_bytes() == before


def test_the_folder_for_what_is_written_is_made(folder: Path, tmp_path: Path) -> None:
    """`--out NAME` makes the folder NAME, as the page on keys has it; not its parents."""
    from sealrun import __main__ as program

    assert program.main(["keys.revoke", "--reason=compromised", f"--out={tmp_path / 'revoked'}"]) == 0
    assert len(list((tmp_path / "revoked").glob("*.revocation.json"))) == 1
    assert program.main(["keys.revoke", "--reason=compromised", f"--out={tmp_path / 'no' / 'revoked'}"]) == 2
    assert program.main(["keys.rotate", f"--since={DAY}", f"--out={tmp_path / 'handover'}"]) == 0
    assert (tmp_path / "handover" / "release.pub").is_file()
