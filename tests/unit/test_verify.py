"""Laws of verification, held by two verifiers that share no code."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import verify_bundle
from sealrun import digest
from sealrun.errors import SealrunError
from sealrun.evidence import revocation, sign, signers
from sealrun.evidence.verify import Verification, verify
from sealrun.outcome import Verdict
from tests import peak
from tests.bundles import P256, TITLE, Draft, key_file, public_key, small
from tests.fuzz_bundles import problems
from tests.hostile import PASSED, REFUSED, cases

CASES = {name: (code, make) for name, code, make in cases()}
OURS = public_key().fingerprint


def ours(
    path: Path, trust: Path | None = None, fingerprint: str | None = OURS, delivery: Path | None = None,
    revoked: Path | None = None,
) -> tuple[int, str]:  # fmt: skip
    """Exit code and message of `invoke verify`."""
    try:
        found = verify(path, trust=trust, fingerprint=fingerprint, delivery=delivery, revoked=revoked)
    except SealrunError as error:
        return error.exit_code, str(error)
    return int(found.verdict is not Verdict.PASSED), ""


def theirs(
    path: Path, trust: Path | None = None, fingerprint: str | None = OURS, delivery: Path | None = None,
    revoked: Path | None = None,
) -> tuple[int, str]:  # fmt: skip
    """Exit code and message of `verify_bundle.py`."""
    try:
        given = (str(value) if value else None for value in (trust, fingerprint, delivery, revoked))
        return int(not verify_bundle.verified(path, *given).passed), ""
    except verify_bundle.Refused as error:
        return error.exit_code, str(error)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A good bundle."""
    return Draft().write(tmp_path / "made")


@pytest.mark.parametrize("name", CASES)
def test_both_verifiers_answer_as_they_must(name: str, tmp_path: Path) -> None:
    """Each case ends in its exit code, with a message when it is refused, and the two verifiers agree."""
    code, make = CASES[name]
    path = make(tmp_path)
    for verifier in (ours, theirs):
        got, message = verifier(path)
        assert got == code, f"{verifier.__name__}: {message}"
        assert bool(message) == (code == REFUSED)


def test_nothing_is_written_or_left_behind(made: Path) -> None:
    """Verification writes no file."""
    before = sorted(made.parent.iterdir())
    assert ours(made) == theirs(made) == (PASSED, "")
    assert sorted(made.parent.iterdir()) == before


@pytest.mark.parametrize("suffix", [".evidence.tar", ".intoto.jsonl", "report.html"])
def test_a_changed_byte_is_refused(made: Path, suffix: str) -> None:
    """A changed byte anywhere is refused: every 61st of each file here, all of them in the heavy test."""
    assert flipped(made, suffix, step=61, verifiers=(ours, theirs)) == []


@pytest.mark.heavy
@pytest.mark.parametrize("begin", range(6))
@pytest.mark.parametrize("suffix", [".evidence.tar", ".intoto.jsonl", "report.html"])
def test_every_changed_byte_is_refused(tmp_path: Path, suffix: str, begin: int) -> None:
    """A changed byte anywhere is refused by both, each byte of all three files of a small bundle."""
    assert flipped(small().write(tmp_path), suffix, begin=begin, step=6, verifiers=(ours, theirs)) == []


@pytest.mark.parametrize("begin", [0, 777_777])
def test_fuzzed_bundles(begin: int) -> None:
    """Both verifiers answer alike about fuzzed bundles, refuse what changed on the way, crash never and write nothing."""
    assert problems(range(begin, begin + 500)) == []


@pytest.mark.heavy
@pytest.mark.parametrize("part", range(10))
def test_many_fuzzed_bundles(part: int) -> None:
    """The same, of 20,000 bundles, or as many as FUZZ_BUNDLES says."""
    count = int(os.environ.get("FUZZ_BUNDLES", "20000")) // 10
    assert problems(range(part * count, (part + 1) * count)) == []


def flipped(
    made: Path, suffix: str, *, step: int, verifiers: tuple[Callable[[Path], tuple[int, str]], ...], begin: int = 0
) -> list[int]:
    """Return the offsets at which a flipped bit was not refused."""
    target = made.parent / (f"{TITLE}{suffix}" if suffix.startswith(".") else suffix)
    data = target.read_bytes()
    missed = []
    for offset in range(begin, len(data), step):
        target.write_bytes(data[:offset] + bytes([data[offset] ^ 1 << offset % 8]) + data[offset + 1 :])
        missed += [offset for verifier in verifiers if verifier(made)[0] != REFUSED]
    return missed


@pytest.mark.parametrize("suffix", [".evidence.tar", ".intoto.jsonl"])
def test_a_cut_at_any_place_is_refused(made: Path, suffix: str) -> None:
    """A file that ends early is refused, wherever it ends."""
    target = made.parent / f"{TITLE}{suffix}"
    data = target.read_bytes()
    for length in range(0, len(data), 487):
        target.write_bytes(data[:length])
        assert ours(made)[0] == theirs(made)[0] == REFUSED, length


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("way: a member dropped", "evidence/audit/pip-audit.json"),
        ("way: a member added at the end", "zz"),
        ("way: another report", "report.html"),
        ("way: two lines exchanged", "envelope 2"),
        ("maker: evidence that is another", "statements/audit.json"),
        ("maker: a verdict that does not follow", "statements/audit.json"),
        ("maker: a plan of another policy", "plan.json"),
        ("maker: an opened network that passed", "network.denied"),
        ("maker: a certificate about other files", "evidence/certify/certificate/report.json"),
        ("maker: a certificate about another report", "evidence/certify/baseline-report.json"),
        ("archive: a symbolic link", "policy/zz"),
    ],
)
def test_the_message_names_what_does_not_hold(case: str, named: str, tmp_path: Path) -> None:
    """A refusal names the member, line or control."""
    path = CASES[case][1](tmp_path)
    assert named in ours(path)[1]
    assert named in theirs(path)[1]


def test_what_is_said_of_a_good_bundle(made: Path) -> None:
    """A verified bundle says its title, day, key, digest and every line of the checklist."""
    found = verify(made, trust=None, fingerprint=OURS, delivery=None)
    assert isinstance(found, Verification)
    assert (found.title, found.judged_at, found.fingerprint, found.posture) == (TITLE, "2026-01-15", OURS, "research")
    assert [outcome.control for outcome in found.controls][:2] == ["lock.hashed", "sbom.generated"]
    assert not found.promotable


def test_a_renamed_bundle_verifies(made: Path) -> None:
    """The file's name is not part of what is signed; its envelopes go by the same stem."""
    for suffix in (".evidence.tar", ".intoto.jsonl"):
        (made.parent / f"{TITLE}{suffix}").rename(made.parent / f"copy (1){suffix}")
    path = made.parent / "copy (1).evidence.tar"
    assert ours(path) == theirs(path) == (PASSED, "")


class TestTrust:
    """Trust comes from the recipient."""

    def test_a_key_file_or_a_folder_of_keys(self, made: Path, tmp_path: Path) -> None:
        """The signer must be among the keys given."""
        (tmp_path / "trust").mkdir()
        for seed in (1, 2):
            (tmp_path / "trust" / f"{seed}.pub").write_bytes(public_key(seed).pem)
        for place in (tmp_path / "trust" / "1.pub", tmp_path / "trust"):
            assert ours(made, trust=place, fingerprint=None) == theirs(made, trust=place, fingerprint=None) == (0, "")
        other = tmp_path / "trust" / "2.pub"
        for verifier in (ours, theirs):
            code, message = verifier(made, trust=other, fingerprint=None)
            assert code == REFUSED
            assert OURS in message

    def test_a_key_with_dos_line_ends(self, made: Path, tmp_path: Path) -> None:
        """A key that went through a mail client is the same key."""
        place = tmp_path / "release.pub"
        place.write_bytes(public_key().pem.replace(b"\n", b"\r\n"))
        assert ours(made, trust=place, fingerprint=None) == theirs(made, trust=place, fingerprint=None) == (0, "")

    def test_another_fingerprint(self, made: Path) -> None:
        """A bundle by somebody else is refused."""
        for verifier in (ours, theirs):
            assert verifier(made, fingerprint=public_key(2).fingerprint)[0] == REFUSED

    def test_nobody_to_trust(self, made: Path, tmp_path: Path) -> None:
        """Without anybody to trust the answer is wrong use, with the fingerprint seen."""
        (tmp_path / "empty").mkdir()
        for verifier in (ours, theirs):
            code, message = verifier(made, trust=tmp_path / "empty", fingerprint=None)
            assert code == 2
            assert OURS in message

    @pytest.mark.parametrize("text", ["sha256:", "md5:00", "A" * 64, f"sha256:{'A' * 64}", f"{OURS}\n", f"{OURS}0"])
    def test_a_malformed_fingerprint(self, made: Path, text: str) -> None:
        """A fingerprint that is none is wrong use."""
        assert ours(made, fingerprint=text)[0] == theirs(made, fingerprint=text)[0] == 2

    def test_both_at_once(self, made: Path, tmp_path: Path) -> None:
        """--trust and --fingerprint together are wrong use."""
        assert ours(made, trust=tmp_path)[0] == theirs(made, trust=tmp_path)[0] == 2

    def test_a_trusted_file_that_is_no_key(self, made: Path, tmp_path: Path) -> None:
        """A trust file without a sound key is wrong use, a missing one a missing input."""
        (tmp_path / "x.pub").write_bytes(b"nothing")
        for verifier in (ours, theirs):
            assert verifier(made, trust=tmp_path / "x.pub", fingerprint=None)[0] == 2
            assert verifier(made, trust=tmp_path / "none.pub", fingerprint=None)[0] == 3
        (tmp_path / "large.pub").write_bytes(b"-" * 100_000)
        os.mkfifo(tmp_path / "pipe.pub")
        for verifier in (ours, theirs):
            assert verifier(made, trust=tmp_path / "large.pub", fingerprint=None)[0] == 2
            assert verifier(made, trust=tmp_path / "pipe.pub", fingerprint=None)[0] == 2


class TestTrustFolder:
    """Roles, days, thresholds and revocations, on which both verifiers agree."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """The public halves of the keys 1 to 3 and of one of P-256."""
        place = tmp_path / "trust"
        place.mkdir()
        for seed in (1, 2, 3, P256):
            (place / f"{seed}.pub").write_bytes(public_key(seed).pem)
        return place

    @pytest.fixture
    def cosigned(self, tmp_path: Path) -> Path:
        """A bundle signed by the keys 1, 2 and the one of P-256."""
        known = {**Draft().policy, **{f"trust/{seed}.pub": public_key(seed).pem for seed in (2, P256)}}
        return Draft(policy=known, cosigners=(2, P256)).write(tmp_path / "cosigned")

    @staticmethod
    def say(folder: Path, *roles: str, head: str = "", more: str = "") -> None:
        """Write trust.toml for the four keys."""
        names = ("1.pub", str(P256) + ".pub", "2.pub", "3.pub")
        tables = (f'\n[[key]]\nfile = "{name}"\nroles = "{role}"\n' for name, role in zip(names, roles, strict=True))
        (folder / "trust.toml").write_text(f'format = "sealrun/trust-v1"\n{head}{"".join(tables)}{more}', "utf-8")

    @staticmethod
    def both(path: Path, folder: Path | None = None, **named: Any) -> int:
        """The exit code of both verifiers."""
        codes = {verifier(path, trust=folder, **{"fingerprint": None, **named})[0] for verifier in (ours, theirs)}
        assert len(codes) == 1, [verifier(path, trust=folder, **{"fingerprint": None, **named}) for verifier in (ours, theirs)]
        return codes.pop()

    def test_any_of_several_signers(self, cosigned: Path) -> None:
        """The recipient may trust any one of those that signed, of either kind, and nobody else."""
        for seed in (1, 2, P256):
            assert self.both(cosigned, fingerprint=public_key(seed).fingerprint) == PASSED
        assert self.both(cosigned, fingerprint=public_key(3).fingerprint) == REFUSED

    @pytest.mark.parametrize(
        ("threshold", "roles", "code"),
        [
            ("1", ("release", "release", "release", "release"), PASSED),
            ("3", ("release", "release", "release", "release"), PASSED),
            ("4", ("release", "release", "release", "release"), REFUSED),
            ("2", ("release", "revoke", "promote", "release"), REFUSED),
            ("2", ("release", "hosted", "promote", "promote"), PASSED),
            ("1", ("revoke", "revoke", "revoke", "release"), REFUSED),
            ("5", ("release", "release", "release", "release"), 2),
            ("0", ("release", "release", "release", "release"), 2),
            ("01", ("release", "release", "release", "release"), 2),
            ("1", ("release", "release", "release", "owner"), 2),
            ("1", ("release", "release", "release", ""), 2),
            ("2", ("release", "promote", "promote", "promote"), 2),
        ],
    )
    def test_thresholds_and_roles(
        self, cosigned: Path, folder: Path, threshold: str, roles: tuple[str, ...], code: int
    ) -> None:
        """So many different keys that may sign releases must have signed."""
        self.say(folder, *roles, head=f'threshold = "{threshold}"\n')
        assert self.both(cosigned, folder) == code

    @pytest.mark.parametrize(
        ("days", "code"),
        [
            ('since = "2026-01-15"\nuntil = "2026-01-15"\n', PASSED),
            ('since = "2026-01-16"\n', REFUSED),
            ('until = "2026-01-14"\n', REFUSED),
            ('until = "2026-02-30"\n', 2),
            ('until = "20260115"\n', 2),
            ("until = true\n", 2),
            ('more = "x"\n', 2),
        ],
    )
    def test_days(self, made: Path, folder: Path, days: str, code: int) -> None:
        """A key counts on the days that it is trusted for, both ends included; the day is that of the judgement."""
        for seed in (2, P256, 3):
            (folder / f"{seed}.pub").unlink()
        (folder / "trust.toml").write_text(f'format = "sealrun/trust-v1"\n[[key]]\nfile = "1.pub"\nroles = "release"\n{days}')
        assert self.both(made, folder) == code

    @pytest.mark.parametrize(
        "more",
        [
            '\n[[key]]\nfile = "none.pub"\nroles = "release"\n',
            '\n[[key]]\nfile = "1.pub"\nroles = "release"\n',
            "\n[[other]]\n",
            "threshold = 2\n",
        ],
    )
    def test_a_description_that_does_not_fit(self, made: Path, folder: Path, more: str) -> None:
        """trust.toml names each key of its folder once, in its own form, or nobody is trusted."""
        self.say(folder, *["release"] * 4, more=more)
        assert self.both(made, folder) == 2

    def test_a_key_in_two_files(self, cosigned: Path, folder: Path) -> None:
        """A key cannot count twice."""
        (folder / "2.pub").write_bytes(public_key(1).pem)
        self.say(folder, *["release"] * 4, head='threshold = "2"\n')
        assert self.both(cosigned, folder) == 2

    def revoke(self, folder: Path, by: int, what: str, sha256: str, **said: Any) -> Path:
        """Write a revocation signed by the key *by*."""
        values = {"reason": "compromised", "since": None, "successor": None, "note": "", **said}
        payload = revocation.statement(what, sha256, revocation.Revoked(**values))  # type: ignore[arg-type]
        path = folder / f"{by}{revocation.SUFFIX}"
        key = key_file(folder, by)
        path.write_bytes(sign.sign([payload], signers.of_file(key)))
        key.unlink()
        return path

    @pytest.mark.parametrize(
        ("said", "code"),
        [
            ({}, REFUSED),
            ({"reason": "compromised", "since": "2026-02-01"}, REFUSED),
            ({"reason": "superseded", "since": "2026-01-15", "successor": "ab" * 32, "note": "yearly"}, REFUSED),
            ({"reason": "superseded", "since": "2026-01-16"}, PASSED),
            ({"reason": "withdrawn"}, REFUSED),
        ],
    )
    def test_a_revoked_key(self, made: Path, folder: Path, tmp_path: Path, said: dict[str, str], code: int) -> None:
        """A compromised key is void for every bundle, a superseded one from its day on; by the folder or by --revoked."""
        path = self.revoke(folder, 1, "key", public_key(1).keyid, **said)
        assert self.both(made, folder) == code
        assert self.both(made, fingerprint=OURS, revoked=path) == code
        assert self.both(made, fingerprint=OURS, revoked=folder) == code
        path.rename(tmp_path / path.name)
        assert self.both(made, folder, revoked=tmp_path / path.name) == code

    def test_enough_others(self, cosigned: Path, folder: Path) -> None:
        """A revoked key does not count; the others may be enough."""
        self.revoke(folder, 1, "key", public_key(1).keyid)
        assert self.both(cosigned, folder) == PASSED
        self.say(folder, *["release"] * 4, head='threshold = "3"\n')
        assert self.both(cosigned, folder) == REFUSED

    @pytest.mark.parametrize(("role", "code"), [("revoke", REFUSED), ("release", 2), ("promote", 2)])
    def test_who_may_revoke(self, made: Path, folder: Path, role: str, code: int) -> None:
        """Another key revokes one only with that role; a revocation by nobody is wrong use, not silence."""
        self.revoke(folder, 3, "key", public_key(1).keyid)
        self.say(folder, "release", "release", "release", role)
        assert self.both(made, folder) == code

    def test_one_about_somebody_else(self, made: Path, folder: Path) -> None:
        """A revocation of another key or bundle changes nothing, whoever signed it."""
        self.revoke(folder, 3, "key", public_key(2).keyid)
        self.revoke(folder, 2, "bundle", "0" * 64)
        assert self.both(made, folder) == PASSED

    @pytest.mark.parametrize(("by", "code"), [(1, REFUSED), (3, REFUSED), (P256, 2)])
    def test_a_revoked_bundle(self, made: Path, folder: Path, by: int, code: int) -> None:
        """Its signer, or another key that may sign releases, takes a bundle back."""
        self.revoke(folder, by, "bundle", digest.of_file(made), reason="withdrawn")
        self.say(folder, "release", "promote", "promote", "release")
        assert self.both(made, folder) == code

    @pytest.mark.parametrize(
        "edit",
        [
            lambda data: b"",
            lambda data: data[:-1],
            lambda data: data * 2,
            lambda data: data.replace(b"payload", b"paYload", 1),
            lambda data: b"{}\n",
        ],
    )
    def test_what_is_no_revocation(self, made: Path, folder: Path, edit: Callable[[bytes], bytes]) -> None:
        """A file that is none is wrong use."""
        path = self.revoke(folder, 1, "key", public_key(1).keyid)
        path.write_bytes(edit(path.read_bytes()))
        assert self.both(made, folder) == 2

    def test_the_tier(self, made: Path, folder: Path) -> None:
        """A key that only a hosted build can use says so; a key that no policy of the maker lists is a research key."""
        assert verify(made, trust=folder, fingerprint=None, delivery=None).tier == "research key"
        self.say(folder, "hosted", "release", "release", "release")
        assert verify(made, trust=folder, fingerprint=None, delivery=None).tier == "hosted identity"
        found = verify_bundle.verified(made, str(folder), None, None)
        assert verify_bundle.tier_of(found) == "hosted identity"


class TestDelivery:
    """--files binds what was delivered, byte for byte."""

    @pytest.fixture
    def delivered(self, tmp_path: Path) -> Path:
        """The candidate's files."""
        folder = tmp_path / "delivered"
        (folder / "tokenizer").mkdir(parents=True)
        for name, data in Draft().candidate.items():
            (folder / name).write_bytes(data)
        return folder

    def both(self, made: Path, folder: Path) -> set[int]:
        """The exit codes of both verifiers."""
        return {verifier(made, delivery=folder)[0] for verifier in (ours, theirs)}

    def test_the_certified_files(self, made: Path, delivered: Path) -> None:
        """Exactly the certified files pass; an empty folder more does not matter."""
        (delivered / "empty").mkdir()
        assert self.both(made, delivered) == {PASSED}

    @pytest.mark.parametrize(
        "change",
        [
            lambda folder: (folder / "model.onnx").write_bytes(b"weightS"),
            lambda folder: (folder / "model.onnx").unlink(),
            lambda folder: (folder / "more.txt").write_bytes(b""),
            lambda folder: (folder / ".hidden").write_bytes(b""),
            lambda folder: (folder / ".gitattributes").write_bytes(b""),
            lambda folder: (folder / "model.onnx").rename(folder / "Model.onnx"),
            lambda folder: (folder / "model.onnx").rename(folder / "m") and (folder / "model.onnx").symlink_to("m"),
            lambda folder: (folder / "linked").symlink_to(folder / "tokenizer"),
            lambda folder: shutil.move(folder / "tokenizer" / "vocab.json", folder / "vocab.json"),
        ],
    )
    def test_anything_else(self, made: Path, delivered: Path, change: Callable[[Path], object]) -> None:
        """A byte changed, a file dropped, added, renamed or linked is refused."""
        change(delivered)
        assert self.both(made, delivered) == {REFUSED}

    def test_no_folder(self, made: Path, tmp_path: Path) -> None:
        """A folder that does not exist is a missing input."""
        assert self.both(made, tmp_path / "none") == {3}


@pytest.mark.parametrize(("name", "code"), [("x.tar", 2), ("none.evidence.tar", 3)])
def test_no_such_bundle(name: str, code: int, tmp_path: Path) -> None:
    """A file of another name is wrong use, a missing one a missing input."""
    assert ours(tmp_path / name)[0] == theirs(tmp_path / name)[0] == code


def test_a_bundle_that_is_a_folder(tmp_path: Path) -> None:
    """A folder is refused."""
    (tmp_path / "x.evidence.tar").mkdir()
    assert {ours(tmp_path / "x.evidence.tar")[0], theirs(tmp_path / "x.evidence.tar")[0]} <= {3, REFUSED}


def test_kept_bundles_of_every_version_verify() -> None:
    """A bundle that once verified does so for ever."""
    folder = Path(__file__).resolve().parents[1] / "vectors"
    kept = json.loads((folder / "kept.json").read_text("utf-8"))
    assert kept
    for name, expected in kept.items():
        for verifier in (ours, theirs):
            assert verifier(folder / name, fingerprint=expected["fingerprint"])[0] == expected["exit_code"], name


def test_the_vectors_of_version_2(tmp_path: Path) -> None:
    """Every kept bundle, good or bad, is answered by both verifiers with its exit code."""
    folder = Path(__file__).resolve().parents[1] / "vectors"
    known = json.loads((folder / "v2.json").read_text("utf-8"))
    with tarfile.open(folder / "v2.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    assert len(known["cases"]) > 60
    for name, case in known["cases"].items():
        codes = [
            verifier(tmp_path / name / known["bundle"], fingerprint=known["fingerprint"])[0] for verifier in (ours, theirs)
        ]
        assert codes == [case["exit_code"]] * 2, case["about"]


@pytest.mark.heavy
@pytest.mark.parametrize("suffix", [".evidence.tar", ".intoto.jsonl"])
def test_a_cut_at_every_place_is_refused(tmp_path: Path, suffix: str) -> None:
    """A file that ends early is refused, wherever it ends, by both."""
    made = small().write(tmp_path)
    target = made.parent / f"{TITLE}{suffix}"
    data = target.read_bytes()
    for length in range(len(data)):
        target.write_bytes(data[:length])
        assert (ours(made)[0], theirs(made)[0]) == (REFUSED, REFUSED), length


@pytest.mark.heavy
def test_a_large_delivery(tmp_path: Path) -> None:
    """2 GB are bound at 90 % or more of sha256sum's speed, in less than 100 MB of memory, by the file alone."""
    large = tmp_path / "model" / "weights.bin"
    large.parent.mkdir()
    with large.open("wb") as stream:
        stream.truncate(2 * 10**9)  # reads as zeros without a disk
    measured: list[tuple[float, float]] = []
    sha256 = ""
    for _ in range(2):
        begun = time.perf_counter()
        sha256 = subprocess.run(["sha256sum", large], capture_output=True, text=True, check=True).stdout.split()[0]
        theirs_took, begun = time.perf_counter() - begun, time.perf_counter()
        entry = digest.FileDigest(path="weights.bin", sha256=sha256, size=2 * 10**9)
        made = Draft(candidate={}, large=(entry,)).write(tmp_path / "made")
        begun = time.perf_counter()
        argv = peak.measured(
            sys.executable, "-I", str(verify_bundle.__file__), str(made), "--fingerprint", OURS, "--files", str(large.parent)
        )
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        measured.append((theirs_took / (time.perf_counter() - begun), int(done.stdout.split()[-1]) / 1024))
    print(measured)
    assert max(speed for speed, _ in measured) >= 0.9
    assert max(memory for _, memory in measured) < 100


def test_there_are_enough_cases() -> None:
    """The verifiers are held to many good and bad bundles."""
    assert len(CASES) > 180
