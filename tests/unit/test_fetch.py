"""`invoke fetch` against a server that speaks the hub's protocol, and `invoke policy.pin`."""

import hashlib
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sealrun import digest, fetch, pin
from sealrun.errors import ToolFailed, UsageError, VerificationFailed
from sealrun.outcome import Verdict
from sealrun.reports import hub
from sealrun.stages import model
from tests.small import EXAMPLE, context_of, execute, outcome, repository, use_environments

REVISION = "a" * 40
NAMES = ("config.json", "model.onnx", "tokenizer.json")


class Hub(ThreadingHTTPServer):
    """A hub on the loopback that holds one repository; notes what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files = {name: (EXAMPLE / "candidate" / name).read_bytes() for name in NAMES}
        self.files |= {"pytorch_model.bin": b"never asked for", "data.jsonl": (EXAMPLE / "data" / "eval.jsonl").read_bytes()}
        self.commit, self.asked = REVISION, list[str]()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        name = self.path.partition(f"/resolve/{REVISION}/")[2]
        data = self.server.files.get(name)
        self.server.asked.append(name)
        if data is None or "owner/name" not in self.path:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", self.server.commit)
        large = name.endswith((".onnx", ".bin"))
        self.send_header("ETag", f'"{(hashlib.sha256 if large else hashlib.sha1)(self.server.files[name]).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running hub that fetch is pointed to."""
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("INVARLOCK_ALLOW_NETWORK", "1")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A release whose policy trusts one repository."""
    root = repository(tmp_path / "repository")
    gates = root / "policy" / "gates.toml"
    gates.write_text(gates.read_text().replace("trusted_repositories = []", 'trusted_repositories = ["owner/name"]'))
    return root


@pytest.fixture
def real(root: Path) -> Path:
    """The same, with the environments of fetch and of the model gate."""
    for name in ("fetch", "model"):
        use_environments(root, name)
    return root


def order(role: str = "candidate", *names: str) -> fetch.Order:
    return fetch.order(role, "owner/name", REVISION, names or NAMES)


@pytest.mark.e2e
def test_chosen_files_are_fetched_pinned_and_pass_the_gate(real: Path, served: Hub) -> None:
    """Only the files named are asked for; they lie in the hub's cache layout; the gate then works offline."""
    fetch.fetch(real, context_of(real).plan, [order(), order("data", "data.jsonl")])
    assert set(served.asked) == {*NAMES, "data.jsonl"}
    context = context_of(real)
    release = context.plan.release
    assert release.candidate.files == {name: digest.of_bytes(served.files[name]) for name in NAMES}
    assert release.candidate.path == f"cache/models--owner--name/snapshots/{REVISION}"
    assert (real / release.candidate.path / "model.onnx").is_symlink()
    said = execute(model.STAGE, context)
    assert [(finding.path, finding.message) for finding in said.findings] == []
    assert (said.verdict, said.network) == (Verdict.PASSED, "denied")
    assert fetch.orders_of(context.plan) == [order(), order("data", "data.jsonl")]


@pytest.mark.e2e
def test_what_is_not_listed_in_a_snapshot_is_not_read(real: Path, served: Hub) -> None:
    """A pickle that another program put beside the safetensors blocks nobody; a link out of the cache does."""
    fetch.fetch(real, context_of(real).plan, [order()])
    snapshot = real / "cache" / "models--owner--name" / "snapshots" / REVISION
    (snapshot / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\n.")
    assert execute(model.STAGE, context_of(real)).verdict is Verdict.PASSED
    outside = real / "elsewhere.json"
    (snapshot / "config.json").resolve().rename(outside)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(outside)
    said = execute(model.STAGE, context_of(real))
    assert "candidate/config.json: no regular file inside its folder" in outcome(said, "model.digests").seen


@pytest.mark.e2e
def test_a_moved_revision_is_named(real: Path, served: Hub) -> None:
    """A snapshot of one revision cannot be passed off as another."""
    fetch.fetch(real, context_of(real).plan, [order()])
    release = real / "release.toml"
    release.write_text(release.read_text().replace(f'revision = "{REVISION}"', f'revision = "{"b" * 40}"'))
    said = execute(model.STAGE, context_of(real))
    assert "which is not its source" in outcome(said, "model.source").seen


@pytest.mark.e2e
def test_a_hub_that_gives_other_bytes_is_caught(real: Path, served: Hub) -> None:
    """Other bytes at the same revision, which do not stay, another commit, a file that is not there."""
    fetch.fetch(real, context_of(real).plan, [order()])
    (real / "cache").rename(real / "old")
    served.files["config.json"] = b"{}"
    with pytest.raises(VerificationFailed, match=r"candidate/config\.json: .* gave other bytes before"):
        fetch.fetch(real, context_of(real).plan, [order()])
    good = (real / "old" / "models--owner--name" / "snapshots" / REVISION / "config.json").read_bytes()
    served.files["config.json"] = good
    fetch.fetch(real, context_of(real).plan, [order()])
    served.commit = "c" * 40
    (real / "cache").rename(real / "older")
    with pytest.raises(ToolFailed, match="another commit"):
        fetch.fetch(real, context_of(real).plan, [order()])
    served.commit = REVISION
    with pytest.raises(ToolFailed, match=r"(?s)fetch_hub.*missing\.json: RemoteEntryNotFoundError") as failed:
        fetch.fetch(real, context_of(real).plan, [order("candidate", *NAMES, "missing.json")])
    assert "Traceback" not in str(failed.value)


def test_nothing_is_asked_of_anybody_without_leave(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network must be opted in, and the repository trusted."""
    monkeypatch.delenv("INVARLOCK_ALLOW_NETWORK", raising=False)
    with pytest.raises(UsageError, match="INVARLOCK_ALLOW_NETWORK=1"):
        fetch.fetch(root, context_of(root).plan, [order()])
    stranger = fetch.order("candidate", "owner/other", REVISION, NAMES)
    with pytest.raises(UsageError, match="does not trust"):
        fetch.fetch(root, context_of(root).plan, [stranger])


@pytest.mark.parametrize(
    ("role", "where", "revision", "names"),
    [
        ("model", "owner/name", REVISION, NAMES),
        ("candidate", "https://hub/owner/name", REVISION, NAMES),
        ("candidate", "owner/name\n", REVISION, NAMES),
        ("candidate", "owner/name", "main", NAMES),
        ("candidate", "owner/name", REVISION[:12], NAMES),
        ("candidate", "owner/name", REVISION, ()),
        ("candidate", "owner/name", REVISION, ("../x",)),
        ("data", "owner/name", REVISION, ("a", "b")),
    ],
)
def test_an_order_is_exact(role: str, where: str, revision: str, names: tuple[str, ...]) -> None:
    """Branches, short revisions, addresses and odd names are refused before anything is asked."""
    with pytest.raises(UsageError):
        fetch.order(role, where, revision, names)


def test_a_release_without_a_repository_says_how_to_name_one(root: Path) -> None:
    """`invoke fetch` with nothing to fetch ends with the command to type."""
    with pytest.raises(UsageError, match="invoke fetch --role"):
        fetch.orders_of(context_of(root).plan)


@pytest.mark.parametrize("name", ["models--a--b", "datasets--a--b--c"])
def test_the_cache_is_told_by_its_layout(name: str) -> None:
    """A snapshot belongs to the repository and revision of its folders."""
    snapshot = Path("/x", name, "snapshots", REVISION)
    assert hub.cache_of(snapshot / "deep") == Path("/x", name)
    assert hub.origin_of(snapshot / "f") == (name.partition("--")[2].replace("--", "/", 1), REVISION)
    assert hub.origin_of(Path("/x", name, "snapshots", "main")) is None
    assert hub.origin_of(Path("/x/candidate")) is None


# -- pins


def test_pins_that_hold_are_left_alone(root: Path) -> None:
    """Nothing to change, nothing written."""
    before = (root / "release.toml").read_bytes()
    assert pin.repin(context_of(root).plan) == ()
    assert (root / "release.toml").read_bytes() == before


def test_every_change_is_shown_and_pinned(root: Path) -> None:
    """A changed, a new and a vanished file, and the data; comments and the other tables stay as they were."""
    (root / "candidate" / "config.json").write_text("{}")
    (root / "candidate" / "extra file.json").write_text("{}")
    (root / "baseline" / "tokenizer_config.json").unlink()
    (root / "data" / "eval.jsonl").write_text('{"text": "one"}\n')
    before = tomllib.loads((root / "release.toml").read_text())
    shown = [change.path for change in pin.changes(context_of(root).plan)]
    assert shown == [
        "baseline/tokenizer_config.json", "candidate/config.json", "candidate/extra file.json", "data/eval.jsonl",
    ]  # fmt: skip
    assert [change.path for change in pin.repin(context_of(root).plan)] == shown
    assert pin.changes(context_of(root).plan) == ()
    text = (root / "release.toml").read_text()
    after = tomllib.loads(text)
    for role in ("baseline", "candidate"):
        before[role].pop("files")
        after[role].pop("files")
    before["data"].pop("sha256")
    after["data"].pop("sha256")
    assert before == after
    assert "# What is released" in text


def test_a_release_is_not_left_without_its_model(root: Path) -> None:
    """A file in use that is gone is named, and nothing is written."""
    (root / "candidate" / "model.onnx").unlink()
    before = (root / "release.toml").read_bytes()
    with pytest.raises(UsageError, match=r"model\.onnx"):
        pin.repin(context_of(root).plan)
    assert (root / "release.toml").read_bytes() == before


def test_what_no_pin_can_name_is_named(root: Path) -> None:
    """A link out of the folder is not pinned."""
    (root / "candidate" / "out.json").symlink_to(root / "release.toml")
    with pytest.raises(UsageError, match=r"candidate/out\.json"):
        pin.repin(context_of(root).plan)
