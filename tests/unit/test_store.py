"""Laws of the store: whole or not at all, until its day, longer under a hold, and the last promoted for good."""

import multiprocessing
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sealrun import __main__ as program
from sealrun import clock, digest, files, places, promotion
from sealrun.errors import InputMissing, UsageError
from sealrun.evidence import disclosure, ledger
from sealrun.evidence.verify import verify
from sealrun.store import Kept, Store
from tests.bundles import DISCLOSURE
from tests.promoting import NOW, checkout, production, promote

LATER = NOW + timedelta(days=91)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout that trusts the test key."""
    return checkout(tmp_path)


@pytest.fixture(params=["folder", "memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store in a folder, and in the places of fsspec that need no network."""
    if request.param == "folder":
        return Store(places.at("kept", tmp_path))
    pytest.importorskip("fsspec", reason="`pip install fsspec`: the environment test has it")
    return Store(places.at(f"memory://{tmp_path}" if request.param == "memory" else f"file://{tmp_path}/remote", tmp_path))


def trust(root: Path) -> Path:
    return root / "policy" / "trust"


def add(store: Store, root: Path, bundle: Path, now: datetime = NOW) -> tuple[Kept, bool]:
    """Verify and keep *bundle*."""
    return store.add(bundle, verify(bundle, trust=trust(root), fingerprint=None, delivery=None), now)


def lines(root: Path) -> tuple[ledger.Line, ...]:
    return ledger.read(promotion.ledger_at(root, None), promotion.trusted_at(root, None)[1])


def reasons(store: Store, root: Path, now: datetime = LATER) -> dict[str, tuple[str, ...]]:
    """What keeps each bundle, by title."""
    return {kept.title: why for kept, why in store.reasons(lines(root), now.date(), trust(root))}


class TestKeeping:
    """What goes in comes out."""

    def test_a_bundle_is_kept_and_verifies_again(self, store: Store, root: Path, tmp_path: Path) -> None:
        """Its record says the signed class, reason and day; adding it again changes nothing; check finds nothing wrong."""
        bundle = production().write(tmp_path / "b")
        kept, new = add(store, root, bundle)
        assert new and (kept.title, kept.retention.until, kept.retention.reason) == ("tiny-1.0.0", "2026-04-20", "Trial runs.")
        assert {part.path for part in kept.parts} == {"tiny-1.0.0.evidence.tar", "tiny-1.0.0.intoto.jsonl", "report.html"}
        assert add(store, root, bundle, LATER) == (kept, False)
        assert list(store.check(trust(root))) == [(kept, "")]
        assert store.orphans() == []

    def test_a_renamed_bundle_is_kept_under_its_title(self, store: Store, root: Path, tmp_path: Path) -> None:
        """The file's name is its holder's; what belongs together is kept together."""
        bundle = production().write(tmp_path / "b")
        for suffix in (".evidence.tar", ".intoto.jsonl"):
            (bundle.parent / f"tiny-1.0.0{suffix}").rename(bundle.parent / f"copy{suffix}")
        kept, _ = add(store, root, bundle.parent / "copy.evidence.tar")
        assert list(store.check(trust(root))) == [(kept, "")]

    def test_a_customer_edition_is_not_kept(self, store: Store, root: Path, tmp_path: Path) -> None:
        """What is not whole is no evidence to keep."""
        draft = production()
        draft.policy["disclosure.toml"] = DISCLOSURE
        (tmp_path / "c").mkdir()
        edition, _ = disclosure.disclose(draft.write(tmp_path / "b"), tmp_path / "c")
        with pytest.raises(UsageError, match="customer edition"):
            add(store, root, edition)

    @pytest.mark.parametrize(
        ("named", "change"),
        [
            ("not what its name says", lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x")),
            ("gone", lambda path: path.unlink()),
            ("not what its name says", lambda path: path.write_bytes(b"")),
        ],
    )
    def test_check_finds_what_rotted(self, root: Path, tmp_path: Path, named: str, change: Callable[[Path], None]) -> None:
        """A part that was changed, cut or lost is named."""
        store = Store(places.at("kept", tmp_path))
        kept, _ = add(store, root, production().write(tmp_path / "b"))
        for part in kept.parts:
            path = tmp_path / "kept" / "objects" / part.sha256[:2] / part.sha256
            before = path.read_bytes()
            change(path)
            ((_, problem),) = store.check(trust(root))
            assert named in problem and part.sha256 in problem
            path.write_bytes(before)
        assert [problem for _, problem in store.check(trust(root))] == [""]

    def test_a_record_that_says_another_day(self, root: Path, tmp_path: Path) -> None:
        """An earlier date in the record removes nothing: the signed one counts."""
        store = Store(places.at("kept", tmp_path))
        kept, _ = add(store, root, production().write(tmp_path / "b"))
        record = tmp_path / "kept" / "bundles" / f"{kept.bundle}.json"
        record.write_bytes(record.read_bytes().replace(b"2026-04-20", b"2026-01-20"))
        ((_, problem),) = store.check(trust(root))
        assert "differs from the bundle" in problem
        assert "does not verify" in reasons(store, root)["tiny-1.0.0"][0]
        assert store.prune((), LATER, trust(root)) == ([], [])


class TestPruning:
    """What may go, and what may not."""

    @pytest.mark.parametrize(("days", "goes"), [(89, False), (90, False), (91, True)])
    def test_not_before_its_day(self, store: Store, root: Path, tmp_path: Path, days: int, goes: bool) -> None:
        """A bundle is kept through the day that it names."""
        add(store, root, production().write(tmp_path / "b"))
        gone, parts = store.prune((), NOW + timedelta(days=days), trust(root))
        assert [kept.title for kept in gone] == (["tiny-1.0.0"] if goes else [])
        assert (len(parts), len(store.kept())) == ((3, 0) if goes else (0, 1))

    def test_not_under_a_hold(self, store: Store, root: Path, tmp_path: Path) -> None:
        """A hold keeps it, with its reason; the end of the hold is kept as well."""
        add(store, root, production().write(tmp_path / "b"))
        kept = store.hold("tiny-1.0.0", "a claim", NOW, held=True)
        assert reasons(store, root) == {"tiny-1.0.0": ("held: a claim",)}
        assert store.prune((), LATER, trust(root)) == ([], [])
        with pytest.raises(UsageError, match="held already"):
            store.hold(f"sha256:{kept.bundle}", "again", NOW, held=True)
        store.hold(kept.bundle, "settled", NOW, held=False)
        assert [(event.held, event.reason) for event in store.held(kept).events] == [(True, "a claim"), (False, "settled")]
        assert reasons(store, root) == {"tiny-1.0.0": ()}

    def test_never_the_last_promoted(self, store: Store, root: Path, tmp_path: Path) -> None:
        """The last of its name in any stage stays, whatever its date; the one before it goes, and stays named."""
        for release, stages in (("1.0.0", ["staging"]), ("1.1.0", ["staging", "production"]), ("1.2.0", ["staging"])):
            bundle = production(release).write(tmp_path / release)
            add(store, root, bundle)
            for stage in stages:
                assert promote(root, bundle, stage).added
        assert reasons(store, root) == {
            "tiny-1.0.0": (), "tiny-1.1.0": ("the last promoted to production",), "tiny-1.2.0": ("the last promoted to staging",),
        }  # fmt: skip
        gone, _ = store.prune(lines(root), LATER, trust(root))
        assert [kept.title for kept in gone] == ["tiny-1.0.0"]
        assert [problem for _, problem in store.check(trust(root))] == ["", ""]

    def test_shared_parts_stay(self, store: Store, root: Path, tmp_path: Path) -> None:
        """A part that another bundle needs, here the same report, is not removed with the first."""
        add(store, root, production("1.0.0", days=10).write(tmp_path / "a"))
        add(store, root, production("1.1.0").write(tmp_path / "b"))
        gone, parts = store.prune((), NOW + timedelta(days=11), trust(root))
        assert [kept.title for kept in gone] == ["tiny-1.0.0"] and len(parts) == 2
        assert [problem for _, problem in store.check(trust(root))] == [""]

    @pytest.mark.parametrize("named", ["none", "sha256:" + "0" * 64])
    def test_what_is_not_kept_is_not_held(self, store: Store, named: str) -> None:
        """A name that is not kept is a missing input."""
        with pytest.raises(InputMissing, match="keeps no"):
            store.hold(named, "why", NOW, held=True)

    def test_a_hold_needs_a_reason(self, store: Store) -> None:
        """An empty reason is wrong use."""
        with pytest.raises(UsageError, match="--reason"):
            store.hold("x", " ", NOW, held=True)


class TestUnderStress:
    """Many at once, killed at any moment, no room: nothing lost, nothing half."""

    def test_many_at_once(self, root: Path, tmp_path: Path) -> None:
        """Processes that keep, hold and prune at once leave a store in which everything verifies."""
        bundles = [production(f"1.0.{number}").write(tmp_path / str(number)) for number in range(20)]
        context = multiprocessing.get_context("fork")
        started = [context.Process(target=_add_and_prune, args=(root, tmp_path, bundle)) for bundle in bundles]
        for process in started:
            process.start()
        for process in started:
            process.join(timeout=120)
            assert process.exitcode == 0
        store = Store(places.at("kept", tmp_path))
        found = list(store.check(trust(root)))
        assert len(found) == 20 and not any(problem for _, problem in found)
        assert store.orphans() == []

    @pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=pytest.mark.heavy)])
    def test_killed_at_any_moment(self, root: Path, tmp_path: Path, rounds: int) -> None:
        """After kill -9 everything with a record verifies; the next writer removes what was half, and finishes."""
        bundles = [production(f"1.0.{number}").write(tmp_path / str(number)) for number in range(6)]
        context = multiprocessing.get_context("fork")
        for number in range(rounds):
            shutil.rmtree(tmp_path / "kept", ignore_errors=True)
            process = context.Process(target=_add_all, args=(root, tmp_path, bundles))
            process.start()
            time.sleep((number * 41 % 97) / 400)
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            store = Store(places.at("kept", tmp_path))
            assert not any(problem for _, problem in store.check(trust(root)))
            _add_all(root, tmp_path, bundles)
            assert [problem for _, problem in store.check(trust(root))] == [""] * len(bundles)
            store.prune((), NOW, trust(root))
            assert store.orphans() == []
            left = [name for name in files.walk_files(tmp_path / "kept") if name.rpartition("/")[2].startswith(".")]
            assert left == [".lock"]

    def test_no_room(self, root: Path, tmp_path: Path) -> None:
        """What does not fit is not kept, and what was kept stays whole."""
        store = Store(places.at("kept", tmp_path))
        add(store, root, production("1.0.0").write(tmp_path / "a"))
        before = {name: digest.of_file(tmp_path / "kept" / name) for name in files.walk_files(tmp_path / "kept")}
        bundle = production("1.1.0").write(tmp_path / "b")
        context = multiprocessing.get_context("fork")
        seen: multiprocessing.Queue[str] = context.Queue()
        process = context.Process(target=_add_in_a_small_file, args=(root, tmp_path, bundle, seen))
        process.start()
        assert seen.get(timeout=60) == "File too large"
        process.join(timeout=60)
        assert {name: digest.of_file(tmp_path / "kept" / name) for name in files.walk_files(tmp_path / "kept")} == before
        assert add(store, root, bundle)[1]


def _add_and_prune(root: Path, tmp: Path, bundle: Path) -> None:
    store = Store(places.at("kept", tmp))
    kept, _ = add(store, root, bundle)
    store.hold(kept.bundle, "busy", NOW, held=True)
    store.prune((), NOW, trust(root))


def _add_all(root: Path, tmp: Path, bundles: list[Path]) -> None:
    for bundle in bundles:
        add(Store(places.at("kept", tmp)), root, bundle)


def _add_in_a_small_file(root: Path, tmp: Path, bundle: Path, seen: "multiprocessing.Queue[str]") -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        add(Store(places.at("kept", tmp)), root, bundle)
    except OSError as error:
        seen.put(error.strerror)


class TestPlaces:
    """Where a store may be."""

    def test_the_network_is_opened_by_its_switch_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A URL across the network is refused without INVARLOCK_ALLOW_NETWORK."""
        monkeypatch.delenv("INVARLOCK_ALLOW_NETWORK", raising=False)
        for url in ("s3://bucket/x", "https://example.invalid/x", "sftp://host/x"):
            with pytest.raises(UsageError, match="INVARLOCK_ALLOW_NETWORK"):
                places.at(url, tmp_path)

    def test_an_unknown_protocol(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What fsspec cannot reach is wrong use, with what to install."""
        monkeypatch.setenv("INVARLOCK_ALLOW_NETWORK", "1")
        with pytest.raises(UsageError, match="pip install"):
            places.at("nowhere://x", tmp_path)

    def test_a_folder_whose_parent_does_not_exist(self, tmp_path: Path) -> None:
        """No parent is made that was not named."""
        with pytest.raises(UsageError, match="parent"):
            places.at("a/b", tmp_path)


def test_the_commands(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """add, list, hold, prune (which only says what it would do), unhold, prune --apply and check, from the command line."""
    old = clock.now().date() - timedelta(days=200)
    bundle = production(day=old).write(tmp_path / "b")
    monkeypatch.setenv("SEALRUN_STORE", str(tmp_path / "kept"))

    def run(*argv: str, code: int = 0) -> str:
        assert program.main([*argv, f"--root={root}"]) == code
        return capsys.readouterr().err

    assert "kept, sha256:" in run("store.add", str(bundle)) and "kept already" in run("store.add", str(bundle))
    assert "1 bundles verified again, 0 of them wrong" in run("store.check")
    assert "does not exist" in run("store.prune", "--apply", code=3)  # no ledger: nobody knows what was promoted last
    (root / "ledger").mkdir()
    promotion.ledger_at(root, None).touch()
    run("store.hold", "tiny-1.0.0", "--reason=a claim")
    assert "HELD: a claim" in run("store.list") and "held: a claim" in run("store.prune", "--apply")
    run("store.unhold", "tiny-1.0.0", "--reason=settled")
    assert "may go" in run("store.prune") and "1 bundles" in run("store.list")
    assert "removed: tiny-1.0.0; 3 parts" in run("store.prune", "--apply")
    assert "0 bundles" in run("store.list")
    run("store.hold", "tiny-1.0.0", "--reason=late", code=3)
    part = next(name for name in files.walk_files(tmp_path / "kept") if name.startswith("pruned"))
    assert b"tiny-1.0.0" in (tmp_path / "kept" / part).read_bytes()
    run("store.add", str(bundle))
    part = next(name for name in files.walk_files(tmp_path / "kept") if name.startswith("objects"))
    (tmp_path / "kept" / part).write_bytes(b"x")
    assert "WRONG" in run("store.check", code=5)


def test_a_place_that_is_no_folder_is_named_by_its_option(tmp_path: Path) -> None:
    """The message speaks of --store."""
    (tmp_path / "file").write_bytes(b"")
    for text in ("file", "no/deeper"):
        with pytest.raises(UsageError, match="--store"):
            places.at(text, tmp_path)
