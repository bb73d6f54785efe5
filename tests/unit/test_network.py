"""What is opened of the network is noted with the command, before it is opened."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sealrun import fetch, locks, network, venvs
from sealrun.advisories.download import download
from sealrun.ci import fleet, kit
from sealrun.errors import SealrunError, UsageError
from sealrun.evidence import signers
from sealrun.evidence.keys import PublicKey
from sealrun.places import Remote
from sealrun.stage import plan_of
from tests import small

ON = "INVARLOCK_ALLOW_NETWORK"


@pytest.fixture(autouse=True)
def _command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_command", [])
    monkeypatch.delenv(ON, raising=False)
    network.is_command(tmp_path, ["fetch", "--role=data"])


def noted(root: Path) -> list[dict[str, Any]]:
    path = root / network.RECORD
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_off_opens_nothing_and_notes_nothing(tmp_path: Path) -> None:
    """Without the switch the answer is no, and no file appears."""
    assert not network.may_open("a hub")
    assert list(tmp_path.iterdir()) == []


def test_on_is_noted_with_the_command_and_the_purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the switch the answer is yes, and the note is there already."""
    monkeypatch.setenv(ON, "1")
    assert network.may_open("a hub")
    (note,) = noted(tmp_path)
    assert (note["command"], note["opened_for"]) == ("fetch --role=data", "a hub")
    assert network.opened_since(tmp_path, note["at"]) == [note]
    assert network.opened_since(tmp_path, "9999") == []


def test_a_switch_that_is_neither_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that says neither on nor off opens nothing."""
    monkeypatch.setenv(ON, "perhaps")
    with pytest.raises(UsageError, match="expected 1, true, yes or on"):
        network.may_open("a hub")
    assert noted(tmp_path) == []


def test_what_cannot_be_noted_stays_shut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that is a link, or lies in what is no folder, is not written through: the network is not opened."""
    monkeypatch.setenv(ON, "1")
    (tmp_path / "build").mkdir()
    (tmp_path / network.RECORD).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"network\.jsonl"):
        network.may_open("a hub")
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / network.RECORD).unlink()
    (tmp_path / "build").rmdir()
    (tmp_path / "build").write_text("in the way")
    with pytest.raises(UsageError, match="expected a folder"):
        network.may_open("a hub")


def test_what_cannot_be_noted_whole_stays_shut(tmp_path: Path) -> None:
    """A disk that takes a part of the line alone, here a limit of the kernel's, opens nothing; nor does a pipe."""
    (tmp_path / "build").mkdir()
    (tmp_path / network.RECORD).write_text("." * 990)
    code = (
        "import resource, signal, sys; from pathlib import Path; from sealrun import network\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "network.is_command(Path(sys.argv[1]), ['fetch'])\n"
        "try: network.may_open('a hub')\nexcept OSError as error: print(error.strerror)\nelse: print('opened')"
    )
    for expected in ("No space left on device", "No such device or address"):
        done = subprocess.run([sys.executable, "-B", "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, env={
            ON: "1", "PYTHONPATH": ":".join(sys.path), "LD_LIBRARY_PATH": "", "PATH": "/usr/bin:/bin",
        })  # fmt: skip
        assert done.stdout == f"{expected}\n", done.stderr
        (tmp_path / network.RECORD).unlink()
        os.mkfifo(tmp_path / network.RECORD)


def test_no_secret_stands_in_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password in an address is masked, in the command as in the purpose."""
    monkeypatch.setenv(ON, "1")
    network.is_command(tmp_path, ["advisories", "--from=https://me:h0rsebattery@example.org/all.zip"])
    network.may_open("https://me:h0rsebattery@example.org/all.zip")
    assert "h0rsebattery" not in (tmp_path / network.RECORD).read_text()
    assert "masked" in noted(tmp_path)[0]["opened_for"]


def test_notes_of_many_at_once_stay_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred notes written side by side are two hundred lines."""
    monkeypatch.setenv(ON, "1")
    (tmp_path / "build").mkdir()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: network.may_open(f"hub {number}"), range(200)))
    assert len({note["opened_for"] for note in noted(tmp_path)}) == 200


def test_a_broken_line_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody else wrote into the record is passed over."""
    monkeypatch.setenv(ON, "1")
    network.may_open("one")
    with (tmp_path / network.RECORD).open("a") as stream:
        stream.write('cut sho\n[1]\n{"at": 3}\n')
    network.may_open("two")
    assert [note["opened_for"] for note in network.opened_since(tmp_path, "2000")] == ["one", "two"]


@pytest.mark.parametrize(
    ("ask", "purpose"),
    [
        (lambda root: Remote("nowhere://bucket"), "a store by nowhere"),
        (lambda root: locks.write(root, ["runner"], upgrade=False, cooldown_days=0), "a package index, to compile runner"),
        (lambda root: venvs.install(root, venvs.Environment(name="lock", smoke=("pip-compile", "--version"))),
         "a package index, for the environment lock"),
        (lambda root: fetch.fetch(root, plan_of(root, None), [fetch.order("data", "owner/name", "a" * 40, ("x",))]),
         "a hub, to fetch owner/name"),
        (lambda root: signers.of_uri("awskms:name", PublicKey(raw=bytes(32))), "a signer by awskms"),
        (lambda root: download("https://nowhere.invalid/all.zip", root / "all.zip"), "https://nowhere.invalid/all.zip"),
        (lambda root: kit.make(small.context_of(root), root, python="3.12"), "a package index, for the wheels of a kit"),
    ],
    ids=["store", "locks", "install", "fetch", "signer", "advisories", "kit"],
)  # fmt: skip
def test_whoever_asks_for_the_network_notes_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Path], object], purpose: str
) -> None:
    """The note is there whatever becomes of the request; without the switch there is neither."""
    root = small.repository(tmp_path / "checkout")
    gates = root / "policy" / "gates.toml"
    gates.write_text(gates.read_text().replace("trusted_repositories = []", 'trusted_repositories = ["owner/name"]'))
    network.is_command(root, ["a", "command"])
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "nothing cached"))
    with pytest.raises(SealrunError):
        ask(root)
    assert noted(root) == []
    monkeypatch.setenv(ON, "1")
    with pytest.raises(SealrunError):
        ask(root)
    assert noted(root)[0]["opened_for"] == purpose


def test_a_scheduler_across_the_network_is_noted_and_one_on_the_loopback_needs_no_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a fleet is sent to is named; this machine is no network."""
    monkeypatch.setenv(ON, "1")
    fleet._scheduler("dask://127.0.0.1:8786")
    assert noted(tmp_path) == []
    fleet._scheduler("dask://cluster.example:8786")
    assert noted(tmp_path)[0]["opened_for"] == "the scheduler cluster.example"
