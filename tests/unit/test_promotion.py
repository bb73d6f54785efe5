"""Laws of promotion: who may go where on which day, once, in one chain that nobody can fork, drop from or write half of."""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import pytest

from sealrun import __main__ as program
from sealrun import clock, digest, files, promotion
from sealrun.errors import UsageError, VerificationFailed
from sealrun.evidence import ledger, revocation, sign, signers
from sealrun.evidence.trust import Trust, TrustedKey
from sealrun.outcome import OutcomeKind
from tests.bundles import Draft, key_file, public_key
from tests.conftest import ROOT
from tests.promoting import NOW, TODAY, checkout, production, promote

TRUSTED = Trust(keys=(TrustedKey(keyid=public_key().keyid, key=public_key()),))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout that trusts the test key."""
    return checkout(tmp_path)


def written(root: Path) -> tuple[ledger.Line, ...]:
    """The ledger's verified lines."""
    return ledger.read(root / promotion.LEDGER, TRUSTED)


def failed(made: promotion.Promoted) -> set[str]:
    """The checks that said no."""
    return {outcome.control for outcome in made.outcomes if outcome.outcome is OutcomeKind.FAILED}


class TestMayIt:
    """Each check lets a good release through and stops what it is there to stop."""

    def test_a_good_release(self, root: Path, tmp_path: Path) -> None:
        """It is promoted by one line, which says what, where, when, under which rules, after which line."""
        made = promote(root, production().write(tmp_path / "b"))
        assert made.added and not failed(made) and made.line is not None
        said = made.line.statement.predicate
        assert (made.line.promotion.title, made.line.promotion.stage) == ("tiny-1.0.0", "staging")
        assert (said.time_verified, said.policy.digest.sha256) == (
            "2026-01-20T12:00:00Z",
            digest.of_file(root / promotion.POLICY),
        )
        assert [subject.name for subject in made.line.statement.subject][:1] == ["tiny-1.0.0.evidence.tar"]
        assert "candidate/model.onnx" in {subject.name for subject in made.line.statement.subject}
        assert made.line.promotion.previous == ledger.START
        assert written(root) == (made.line,)

    @pytest.mark.parametrize(
        ("draft", "control"),
        [
            (Draft(judged_at="2026-01-20", policy=production().policy, snapshot=production().snapshot, warnings={}), "promote.posture"),
            (production(day=TODAY - timedelta(days=31)), "promote.evidence"),
            (production(day=TODAY + timedelta(days=1)), "promote.evidence"),
            (production(snapshot=TODAY - timedelta(days=31)), "promote.advisories"),
            (production(snapshot=TODAY + timedelta(days=1)), "promote.advisories"),
            (Draft(posture="production", warnings={}, judged_at="2026-01-20", policy=production().policy, dropped=("evidence/audit/snapshot.json",)), "promote.advisories"),
            (production(day=TODAY - timedelta(days=10), days=9), "promote.retention"),
        ],
    )  # fmt: skip
    def test_what_is_stopped(self, root: Path, tmp_path: Path, draft: Draft, control: str) -> None:
        """A research release, old or future evidence, old or no advisories, evidence past its date: no line, one reason."""
        made = promote(root, draft.write(tmp_path / "b"))
        assert control in failed(made) and made.line is None
        assert written(root) == ()
        assert all(outcome.seen and outcome.expected for outcome in made.outcomes)

    def test_a_failed_release(self, root: Path, tmp_path: Path) -> None:
        """What a gate refused is not promoted."""
        draft = production()
        draft.kinds = {"audit.clean": OutcomeKind.FAILED}
        assert failed(promote(root, draft.write(tmp_path / "b"))) == {"promote.posture"}

    @pytest.mark.parametrize(("expires", "stops"), [("2026-01-20", False), ("2026-01-19", True)])
    def test_a_waiver_that_lapsed_since(self, root: Path, tmp_path: Path, expires: str, stops: bool) -> None:
        """A waiver holds on its last day; the day after, the release needs another look."""
        text = (
            'format = "sealrun/waivers-v1"\n[[waiver]]\ncontrol = "secrets.clean"\nrule = "r"\ntarget = "t"\nreason = "x"\n'
            f'owner = "a"\napprover = "b"\ngranted = 2026-01-01\nexpires = {expires}\n'
        )
        made = promote(root, production(day=date(2026, 1, 15), waivers=text.encode()).write(tmp_path / "b"))
        assert failed(made) == ({"promote.waivers"} if stops else set())

    def test_a_customer_edition(self, root: Path, tmp_path: Path) -> None:
        """What is not whole is not promoted."""
        from sealrun.evidence import disclosure
        from tests.bundles import DISCLOSURE

        draft = production()
        draft.policy["disclosure.toml"] = DISCLOSURE
        (tmp_path / "c").mkdir()
        edition, _ = disclosure.disclose(draft.write(tmp_path / "b"), tmp_path / "c")
        assert failed(promote(root, edition)) == {"promote.whole"}

    def test_an_unknown_stage(self, root: Path, tmp_path: Path) -> None:
        """A stage that policy does not name is wrong use."""
        with pytest.raises(UsageError, match="production, staging"):
            promote(root, production().write(tmp_path / "b"), "nowhere")

    def test_a_promoter_whom_nobody_trusts(self, root: Path, tmp_path: Path) -> None:
        """A key that the ledger's readers do not trust writes no line."""
        with pytest.raises(VerificationFailed, match="no valid signature"):
            promote(root, production().write(tmp_path / "b"), seed=2)
        assert not (root / promotion.LEDGER).exists()

    def test_a_bundle_exchanged_after_it_was_verified(self, root: Path, tmp_path: Path) -> None:
        """What is judged is what was verified."""
        from sealrun.evidence.verify import verify

        bundle, other = production().write(tmp_path / "b"), production(day=date(2026, 1, 19)).write(tmp_path / "o")
        found = verify(bundle, trust=root / "policy" / "trust", fingerprint=None, delivery=None)
        with pytest.raises(VerificationFailed, match="changed after"):
            promotion.read_evidence(other, found)


class TestWhoMay:
    """The trust folder says which keys promote."""

    @pytest.mark.parametrize(
        ("roles", "extra", "may"),
        [
            ("release promote", "", True),
            ("promote", "", True),
            ("release", "", False),
            ("promote", 'until = "2026-01-19"\n', False),
            ("promote", 'until = "2026-01-20"\n', True),
        ],
    )
    def test_roles_and_days(self, root: Path, tmp_path: Path, roles: str, extra: str, may: bool) -> None:
        """Where a key has the role promote, only such keys write lines, on the days they are trusted for."""
        trust = root / "policy" / "trust"
        (trust / "other.pub").write_bytes(public_key(2).pem)
        (trust / "third.pub").write_bytes(public_key(3).pem)
        (trust / "trust.toml").write_text(
            'format = "sealrun/trust-v1"\n[[key]]\nfile = "release.pub"\nroles = "release"\n'
            f'[[key]]\nfile = "other.pub"\nroles = "{roles}"\n{extra}[[key]]\nfile = "third.pub"\nroles = "promote"\n'
        )
        bundle = production().write(tmp_path / "b")
        if may:
            assert promote(root, bundle, seed=2).added
        else:
            with pytest.raises(VerificationFailed, match="may promote"):
                promote(root, bundle, seed=2)

    @pytest.mark.parametrize("cosigners", [(), (2,)])
    def test_too_few_signatures(self, root: Path, tmp_path: Path, cosigners: tuple[int, ...]) -> None:
        """Where the trust folder asks for two signatures, one is not enough, and two are."""
        trust = root / "policy" / "trust"
        (trust / "other.pub").write_bytes(public_key(2).pem)
        (trust / "trust.toml").write_text(
            'format = "sealrun/trust-v1"\nthreshold = "2"\n[[key]]\nfile = "release.pub"\nroles = "release"\n'
            '[[key]]\nfile = "other.pub"\nroles = "release"\n'
        )
        draft = production()
        draft.policy["trust/other.pub"] = public_key(2).pem
        draft.cosigners = cosigners
        bundle = draft.write(tmp_path / "b")
        if cosigners:
            assert promote(root, bundle).added
        else:
            with pytest.raises(VerificationFailed, match="got 1 signatures that count, expected 2"):
                promote(root, bundle)

    @pytest.mark.parametrize(("what", "stops"), [("key", "is revoked"), ("bundle", "revoked")])
    def test_what_is_revoked(self, root: Path, tmp_path: Path, what: Literal["key", "bundle"], stops: str) -> None:
        """A revocation in the trust folder stops a key's bundles, or one bundle, before anything is written."""
        bundle = production().write(tmp_path / "b")
        sha256 = public_key().keyid if what == "key" else digest.of_file(bundle)
        said = revocation.Revoked(reason="compromised", since=None, successor=None, note="")
        (root / "policy" / "trust" / "x.revocation.json").write_bytes(
            sign.sign([revocation.statement(what, sha256, said)], signers.of_file(root / "key-1.pem"))
        )
        with pytest.raises(VerificationFailed, match=stops):
            promote(root, bundle)
        assert not (root / promotion.LEDGER).exists()


class TestSuperseded:
    """A ledger goes forward only."""

    def test_again_changes_nothing(self, root: Path, tmp_path: Path) -> None:
        """The same bundle for the same stage is answered with the line that is there, even when it has grown old since."""
        bundle = production().write(tmp_path / "b")
        first = promote(root, bundle)
        before = (root / promotion.LEDGER).read_bytes()
        again = promote(root, bundle, now=NOW + timedelta(days=400))
        assert (again.line, again.added) == (first.line, False)
        assert (root / promotion.LEDGER).read_bytes() == before

    def test_what_was_superseded_does_not_come_back(self, root: Path, tmp_path: Path) -> None:
        """After a newer release the older one is refused in that stage, and may still go to another."""
        one, two = (production(release).write(tmp_path / release) for release in ("1.0.0", "1.1.0"))
        assert promote(root, one).added and promote(root, two).added
        made = promote(root, one)
        assert failed(made) == {"promote.superseded"}
        assert "superseded in staging by tiny-1.1.0" in made.outcomes[-1].seen
        assert promote(root, one, "production").added
        assert [line.promotion.number for line in written(root)] == [1, 2, 3]

    def test_older_evidence_does_not_follow_newer(self, root: Path, tmp_path: Path) -> None:
        """A release judged earlier than the one that stands there is refused."""
        assert promote(root, production("2.0.0").write(tmp_path / "two")).added
        older = production("1.9.0", day=TODAY - timedelta(days=1)).write(tmp_path / "one")
        assert "judged later" in promote(root, older).outcomes[-1].seen

    def test_two_bundles_of_one_version(self, root: Path, tmp_path: Path) -> None:
        """A version is one bundle, in all stages."""
        assert promote(root, production(day=TODAY - timedelta(days=1)).write(tmp_path / "a")).added
        assert failed(promote(root, production().write(tmp_path / "b"), "production")) == {"promote.superseded"}


class TestTheChain:
    """What was written cannot be changed, dropped, exchanged or forged without being noticed."""

    @pytest.fixture
    def lines(self, root: Path, tmp_path: Path) -> list[bytes]:
        """A ledger of three lines."""
        for release in ("1.0.0", "1.1.0", "1.2.0"):
            assert promote(root, production(release).write(tmp_path / release)).added
        return (root / promotion.LEDGER).read_bytes().splitlines(keepends=True)

    @pytest.mark.parametrize(
        "change",
        [
            lambda lines: lines[1:],
            lambda lines: [lines[0], lines[2]],
            lambda lines: [lines[1], lines[0], lines[2]],
            lambda lines: [*lines, lines[2]],
            lambda lines: [*lines, b"\n"],
            lambda lines: [*lines[:2], lines[2][:-1]],
            lambda lines: [*lines[:2], lines[2][:-40]],
            lambda lines: [lines[0].replace(b'"payload":"', b'"payload":"AA', 1), *lines[1:]],
        ],
    )
    def test_a_changed_ledger_is_refused(
        self, root: Path, lines: list[bytes], change: Callable[[list[bytes]], list[bytes]]
    ) -> None:
        """Dropped, exchanged, repeated, cut or edited lines are refused, by the reader and by the next promotion."""
        (root / promotion.LEDGER).write_bytes(b"".join(change(lines)))
        with pytest.raises(VerificationFailed):
            written(root)

    def test_every_changed_byte_is_refused(self, root: Path, lines: list[bytes]) -> None:
        """Every 37th byte of the ledger, changed, is noticed."""
        data = b"".join(lines)
        for at in range(0, len(data), 37):
            changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            with pytest.raises(VerificationFailed):
                ledger.parse(changed, "ledger", TRUSTED)

    def test_lines_gone_from_the_end_are_noticed_by_the_head(self, root: Path, lines: list[bytes]) -> None:
        """A chain cannot show that its end is missing; a head that was noted can."""
        path = root / promotion.LEDGER
        noted = f"--head=sha256:{digest.of_bytes(lines[2])}"
        argv = ["ledger.verify", f"--ledger={path}", f"--trust={root / 'policy' / 'trust'}"]
        assert program.main(argv) == program.main([*argv, noted]) == 0
        path.write_bytes(b"".join(lines[:2]))
        assert program.main(argv) == 0
        assert program.main([*argv, noted]) == 5

    def test_a_line_by_somebody_else(self, root: Path, lines: list[bytes], tmp_path: Path) -> None:
        """A line that continues the chain under a key that is not trusted is refused."""
        from sealrun.evidence.verify import verify

        bundle = production("1.3.0").write(tmp_path / "n")
        found = verify(bundle, trust=root / "policy" / "trust", fingerprint=None, delivery=None)
        forged = ledger.line(
            found, stage="staging", lines=written(root), time="2026-01-20T12:00:00Z", policy="0" * 64, sealrun="0",
            by=signers.of_file(key_file(tmp_path, 2)),
        )  # fmt: skip
        with pytest.raises(VerificationFailed, match="line 4: no valid signature"):
            ledger.parse(b"".join([*lines, forged]), "ledger", TRUSTED)


def _promote_one(root: Path, bundle: Path, seen: "multiprocessing.Queue[bool]") -> None:
    seen.put(promote(root, bundle).added)


class TestUnderStress:
    """Many at once, killed at any moment, on a full disk: nothing lost, nothing half, one chain."""

    @pytest.mark.parametrize("same", [True, False], ids=["one bundle", "fifty bundles"])
    def test_fifty_at_once(self, root: Path, tmp_path: Path, same: bool) -> None:
        """Fifty processes that promote one bundle leave one line; fifty different names leave fifty, in one chain."""
        drafts = [production("1.0.0" if same else f"1.0.{number}") for number in range(50)]
        bundles = [production().write(tmp_path / "b")] * 50 if same else [d.write(tmp_path / d.release) for d in drafts]
        context = multiprocessing.get_context("fork")
        seen: multiprocessing.Queue[bool] = context.Queue()
        started = [context.Process(target=_promote_one, args=(root, bundle, seen)) for bundle in bundles]
        for process in started:
            process.start()
        added = [seen.get(timeout=120) for _ in started]
        for process in started:
            process.join(timeout=60)
            assert process.exitcode == 0
        lines = written(root)
        assert sum(added) == len(lines) == (1 if same else 50)
        assert len({line.promotion.bundle for line in lines}) == len(lines)

    @pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=pytest.mark.heavy)])
    def test_killed_at_any_moment(self, root: Path, tmp_path: Path, rounds: int) -> None:
        """After kill -9 the ledger verifies, holds every line that was reported, and goes on; nothing is left lying about."""
        bundles = [production(f"1.0.{number}").write(tmp_path / str(number)) for number in range(8)]
        context = multiprocessing.get_context("fork")
        for number in range(rounds):
            shutil.rmtree(root / "ledger", ignore_errors=True)
            told = tmp_path / f"told-{number}"
            process = context.Process(target=_promote_all, args=(root, bundles, told))
            process.start()
            time.sleep((number * 37 % 97) / 400)
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            reported = told.read_text().split() if told.exists() else []
            found = [line.sha256 for line in written(root)]
            assert found[: len(reported)] == reported
            assert len(found) <= len(reported) + 1
            promote(root, bundles[-1])
            assert len(written(root)) >= 1
            assert {path.name for path in (root / "ledger").iterdir()} == {
                promotion.LEDGER.name,
                f"{promotion.LEDGER.name}.lock",
            }

    def test_a_full_disk(self, root: Path, tmp_path: Path) -> None:
        """When the new ledger does not fit, the promotion fails and the old ledger stands, byte for byte."""
        one, two = (production(release).write(tmp_path / release) for release in ("1.0.0", "1.1.0"))
        promote(root, one)
        before = (root / promotion.LEDGER).read_bytes()
        context = multiprocessing.get_context("fork")
        seen: multiprocessing.Queue[str] = context.Queue()
        process = context.Process(target=_promote_in_a_small_file, args=(root, two, len(before) + 100, seen))
        process.start()
        assert seen.get(timeout=60) == "File too large"
        process.join(timeout=60)
        assert (root / promotion.LEDGER).read_bytes() == before
        assert promote(root, two).added

    def test_a_full_file_system(self, root: Path, tmp_path: Path) -> None:
        """The same on a file system that has no room left: exit 2, the reason, and the old ledger."""
        bundle = production(day=clock.now().date()).write(tmp_path / "b")
        shutil.copytree(ROOT / "policy", tmp_path / "small" / "policy", ignore=shutil.ignore_patterns("advisories"))
        (tmp_path / "keys").mkdir(mode=0o700)
        key_file(tmp_path / "keys").rename(tmp_path / "keys" / "release.pem")
        script = (
            'mkdir -p "$1/mnt" && mount -t tmpfs -o size=16k tmpfs "$1/mnt" && mkdir "$1/mnt/ledger" || exit 77\n'
            'cat /dev/zero > "$1/mnt/filler" 2>/dev/null\n'
            'shift; "$@"; code=$?; ls -A "$FOLDER"; exit $code'
        )
        folder = tmp_path / "mnt" / "ledger"
        argv = [sys.executable, "-m", "sealrun", "promote", str(bundle), "--to=staging", f"--ledger={folder / 'l.jsonl'}",
                f"--trust={root / 'policy' / 'trust'}", f"--root={tmp_path / 'small'}"]  # fmt: skip
        environment = {
            **os.environ,
            "FOLDER": str(folder),
            "SEALRUN_KEYS": str(tmp_path / "keys"),
            "PYTHONPATH": str(ROOT / "scripts"),
        }
        unshare = shutil.which("unshare")
        if unshare is None:
            pytest.skip("no unshare to mount a small file system with")
        done = subprocess.run(
            [unshare, "-rm", "sh", "-c", script, "sh", str(tmp_path), *argv], env=environment, capture_output=True, text=True
        )  # fmt: skip
        if done.returncode == 77 or "unshare failed" in done.stderr:
            pytest.skip(f"no small file system to be had here: {done.stderr}")
        assert done.returncode == 2, done.stderr
        assert "No space left on device" in done.stderr
        assert done.stdout.split() == ["l.jsonl.lock"]


def _promote_all(root: Path, bundles: list[Path], told: Path) -> None:
    with told.open("w") as stream:
        for bundle in bundles:
            line = promote(root, bundle).line
            assert line is not None
            stream.write(f"{line.sha256}\n")
            stream.flush()


def _promote_in_a_small_file(root: Path, bundle: Path, size: int, seen: "multiprocessing.Queue[str]") -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        promote(root, bundle)
    except OSError as error:
        seen.put(error.strerror)


def test_the_command(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`promote` says what stands where and writes the VSA; a research release ends with 1, nobody to trust with 2."""
    today = clock.now().date()
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    key_file(folder).rename(folder / "release.pem")
    monkeypatch.setenv("SEALRUN_KEYS", str(folder))
    bundle = production(day=today).write(tmp_path / "b")
    argv = ["promote", str(bundle), "--to=staging", f"--root={root}", f"--vsa={tmp_path / 'vsa.jsonl'}"]
    assert program.main(argv) == program.main(argv) == 0
    assert "already promoted to staging" in capsys.readouterr().err
    assert (tmp_path / "vsa.jsonl").read_bytes() == (root / promotion.LEDGER).read_bytes()
    assert program.main(["ledger.verify", f"--root={root}"]) == 0
    assert "staging: tiny-1.0.0" in capsys.readouterr().err
    draft = Draft(judged_at=today.isoformat(), policy=production().policy, warnings={})
    assert program.main(["promote", str(draft.write(tmp_path / "r")), "--to=staging", f"--root={root}"]) == 1
    assert "promote.posture: failed" in capsys.readouterr().err
    (root / "policy" / "trust" / "release.pub").unlink()
    assert program.main(argv) == 2
    assert program.main(["promote", str(bundle), "--to=nowhere", f"--root={root}"]) == 2


def test_a_missing_ledger(root: Path) -> None:
    """A ledger that is not there is a missing input, not an empty one."""
    assert program.main(["ledger.verify", f"--root={root}"]) == 3
    assert files.read_bytes(root / promotion.POLICY, "policy")
