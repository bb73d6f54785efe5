"""The secrets stage: what is planted is found and never repeated, and no way to fail ends in a pass."""

import base64
import io
import json
import random
import shutil
import string
import sys
import tarfile
import zipfile
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from sealrun import files, pipeline, venvs
from sealrun.errors import InputMissing, ToolFailed, UsageError, VerificationFailed
from sealrun.evidence import shards
from sealrun.evidence.shards import Shard
from sealrun.evidence.statement import StagePredicate
from sealrun.outcome import OutcomeKind, Verdict
from sealrun.reports.trufflehog3 import SecretScan, read_allowed
from sealrun.stage import Context
from sealrun.stages import secrets
from tests.conftest import ROOT, git
from tests.small import context_of, execute, failed, outcome, repository, use_environments

RECORDED = ROOT / "tests" / "recorded" / "trufflehog3" / "scan.json"


def planted(seed: int) -> str:
    """A made-up cloud key; generated, so that no source file holds one."""
    return "AKIA" + "".join(random.Random(seed).choices(string.ascii_uppercase + string.digits, k=16))


def track(root: Path, name: str, data: str | bytes) -> Path:
    """Write a file and let git track it."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    git(root, "add", "--force", name)
    return path


def assert_nowhere(secret: str, folder: Path) -> None:
    """No file below *folder* holds *secret*, in clear or thinly disguised."""
    raw = secret.encode()
    disguises = (raw, secret.encode("utf-16-le"), raw.hex().encode(), base64.b64encode(raw)[:20], base64.b85encode(raw))
    for name in files.walk_files(folder):
        data = (folder / name).read_bytes()
        assert not any(disguise in data for disguise in disguises), name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return repository(tmp_path / "repository")


@pytest.fixture
def real(root: Path) -> Path:
    """The repository, with the real scanner."""
    use_environments(root, "secrets")
    return root


# -- with the real scanner


@pytest.mark.e2e
def test_a_clean_repository_passes_and_says_what_it_read(real: Path) -> None:
    """Nothing found is a pass only beside a coverage report whose sums agree, and a denied network."""
    track(real, "code.py", "print('hello')\n")
    context = context_of(real)
    said = execute(secrets.STAGE, context)
    coverage = json.loads((context.evidence("secrets") / "coverage.json").read_bytes())
    assert (said.verdict, said.network) == (Verdict.PASSED, "denied")
    assert coverage["listed"] == coverage["scanned"] > 2
    assert coverage["rules"]["count"] > 31 + 150


@pytest.mark.e2e
def test_planted_secrets_are_found_and_never_repeated(real: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Encodings, binary files, pragmas and trufflehog3's own configuration file hide nothing; no output repeats it."""
    keys = [planted(number) for number in range(7)]
    track(real, "src/settings.py", f"# first\n\nKEY = '{keys[0]}'\n")
    track(real, "windows.txt", f"a\r\nkey {keys[1]}\r\n".encode("utf-16"))
    track(real, "latin.ini", f"grüße = {keys[2]}\n".encode("latin-1"))
    track(real, "image.bin", b"\x00\x01\xff" + keys[3].encode() + b"\x00\xfe")
    track(real, "pragma.py", f"key = '{keys[4]}'  # nosecret\n")
    track(real, ".trufflehog3.yml", f"exclude:\n- message: all\n  paths: ['*']\n# {keys[5]}\n")
    track(real, "nested/form.txt", f"one\x0cpage\n\u2028\nkey {keys[6]}\n")
    context = context_of(real)
    said = execute(secrets.STAGE, context)
    found = {finding.path: (finding.rule, finding.line) for finding in said.findings}
    assert failed(said) == {"secrets.clean"}
    assert found == {
        "src/settings.py": ("amazon.aws-api-key", 3),
        "windows.txt": ("amazon.aws-api-key", 2),
        "latin.ini": ("amazon.aws-api-key", 1),
        "image.bin": ("amazon.aws-api-key", None),
        "pragma.py": ("amazon.aws-api-key", 1),
        ".trufflehog3.yml": ("amazon.aws-api-key", 4),
        "nested/form.txt": ("amazon.aws-api-key", 3),
    }
    assert outcome(said, "secrets.clean").remedy.startswith("Rotate the secret first")
    printed = "".join(capfd.readouterr())
    for key in keys:
        assert_nowhere(key, context.out)
        assert key not in printed


@pytest.mark.e2e
def test_a_secret_in_the_release_configuration_is_found_though_git_does_not_track_it(real: Path) -> None:
    """The configuration is scanned wherever it lies."""
    key = planted(8)
    track(real, "code.py", "pass\n")
    git(real, "rm", "--cached", "--quiet", "release.toml")
    track(real, ".gitignore", "/release.toml\n")
    (real / "release.toml").write_text((real / "release.toml").read_text() + f"# {key}\n")
    context = context_of(real)
    said = execute(secrets.STAGE, context)
    assert [finding.path for finding in said.findings] == ["release configuration/release.toml"]
    assert_nowhere(key, context.out)


@pytest.mark.e2e
def test_a_fingerprint_is_of_the_secret_and_a_waiver_for_it_holds_until_its_day(real: Path) -> None:
    """The same secret has one fingerprint wherever it stands; its waiver excuses it, the day after it lapses no more."""
    key = planted(9)
    track(real, "a.txt", f"{key}\n")
    track(real, "b/c.txt", f"x\n{key}\n")
    said = execute(secrets.STAGE, context_of(real))
    prints = {finding.fingerprint for finding in said.findings}
    assert len(said.findings) == 2
    assert len(prints) == 1
    (real / "policy" / "waivers.toml").write_text(
        'format = "sealrun/waivers-v1"\n[[waiver]]\ncontrol = "secrets.clean"\nrule = "amazon.aws-api-key"\n'
        f'target = "{prints.pop()}"\nreason = "a documentation key"\nowner = "team"\napprover = "security"\n'
        "granted = 2025-12-01\nexpires = 2026-01-31\n"
    )
    waived = execute(secrets.STAGE, context_of(real))
    assert outcome(waived, "secrets.clean").outcome is OutcomeKind.WAIVED
    assert waived.verdict is Verdict.PASSED
    lapsed = execute(secrets.STAGE, context_of(real, day=date(2026, 2, 1)))
    assert failed(lapsed) == {"secrets.clean"}


@pytest.mark.e2e
def test_lock_hashes_are_no_secrets_but_the_same_text_as_a_token_is(real: Path) -> None:
    """A digest is known by its context: in a lock it is none, as the value of a token it is reported."""
    digest = "".join(random.Random(1).choices("0123456789abcdef", k=64))
    track(real, "lock.txt", f"package==1 \\\n    --hash=sha256:{digest} \\\n    --hash=sha256:{digest}\n{digest}\n")
    assert execute(secrets.STAGE, context_of(real)).verdict is Verdict.PASSED
    track(real, "deploy.yml", f"digest: {digest}\napi_token: {digest}\n")
    said = execute(secrets.STAGE, context_of(real))
    assert [(finding.path, finding.line) for finding in said.findings] == [("deploy.yml", 2)]


@pytest.mark.e2e
def test_the_history_is_scanned_once_and_says_the_commit(real: Path) -> None:
    """A secret that only the history holds, in a file, a message or a tag, is found with the commit that brought it in."""
    keys = [planted(number) for number in range(20, 23)]
    track(real, "code.py", "pass\n")
    git(real, "commit", "--quiet", "--message=one")
    track(real, "gone.py", f"#\nKEY = '{keys[0]}'\n")
    git(real, "commit", "--quiet", f"--message=two\n\nsee {keys[1]}")
    brought_in = git(real, "rev-parse", "HEAD").strip()
    git(real, "rm", "--quiet", "gone.py")
    git(real, "commit", "--quiet", "--message=three")
    git(real, "tag", "--annotate", f"--message=key {keys[2]}", "v1")
    git(real, "checkout", "--quiet", "--detach")
    context = replace(context_of(real), targets=(real,))  # named as such, a repository is judged with every ref it has
    said = execute(secrets.STAGE, context)
    scan = json.loads((context.evidence("secrets") / "scan.json").read_bytes())
    found = {(entry["where"], entry["path"], entry["line"]): entry["commit"] for entry in scan["findings"]}
    assert failed(said) == {"secrets.clean"}
    assert found.pop(("message", "tag message", 1))
    assert found == {("history", "gone.py", 2): brought_in, ("message", "commit message", 3): brought_in}
    assert scan["history"]["scanned"] == scan["history"]["blobs"] + 3 + 1
    for key in keys:
        assert_nowhere(key, context.out)
    since = execute(secrets.STAGE, replace(context, since="HEAD"))
    assert since.verdict is Verdict.PASSED
    with pytest.raises(UsageError, match="expected a commit"):
        secrets.STAGE.inputs(replace(context, since="nowhere"))


@pytest.mark.e2e
def test_a_second_scan_reads_what_is_new_alone(real: Path) -> None:
    """The cache answers by content and rules, gives the same findings, and holds no secret."""
    key = planted(24)
    track(real, "key.txt", f"{key}\n")
    git(real, "commit", "--quiet", "--message=one")
    context = context_of(real)
    first = execute(secrets.STAGE, context)
    track(real, "new.txt", "new\n")
    second = execute(secrets.STAGE, context_of(real))
    assert [f.fingerprint for f in second.findings] == [f.fingerprint for f in first.findings]
    assert (context.out / "cache" / "secrets" / "found.json").is_file()
    assert_nowhere(key, context.out)


def evidence(context: Context) -> dict[str, bytes]:
    """What the stage left, and its statement."""
    folder = context.evidence("secrets")
    left = {name: (folder / name).read_bytes() for name in files.walk_files(folder)}
    return left | {"statement": context.statement_path("secrets").read_bytes()}


@pytest.mark.e2e
def test_shards_together_leave_the_bytes_of_one_run(real: Path) -> None:
    """Secrets in the tree, in the history alone and in a message: each shard scans its own, all of them what one run does."""
    track(real, ".gitignore", "/whole/\n/split/\n")
    for number in range(12):
        track(real, f"file{number}.txt", f"{planted(100 + number % 5)}\nline {number}\n")
    git(real, "commit", "--quiet", "--message", f"has {planted(120)}")
    for number in range(4):
        (real / f"file{number}.txt").unlink()
    git(real, "add", "--all", "--", "file0.txt", "file1.txt", "file2.txt", "file3.txt")
    git(real, "commit", "--quiet", "--message=less")
    whole, split = (replace(context_of(real), out=real / name / "out") for name in ("whole", "split"))
    said = execute(secrets.STAGE, whole)
    assert said.verdict is Verdict.FAILED and len(said.findings) == 9
    left = []
    for number in (3, 1, 2):
        pipeline.execute_shard(secrets.STAGE, split, Shard(number, 3))
        part = shards.place(split.out, "secrets", Shard(number, 3)) / shards.PART / "found.json"
        left.append(set(json.loads(part.read_bytes())["entries"]))
        shutil.rmtree(split.out / "cache")
    assert all(left) and sum(map(len, left)) == len(set.union(*left))
    pipeline.execute(secrets.STAGE, split, shards_of=3)
    assert evidence(split) == evidence(whole)
    assert_nowhere(planted(100), split.out)


@pytest.mark.e2e
def test_a_shard_of_another_tree_is_refused(real: Path) -> None:
    """One that is missing, was changed, or was made before a file changed ends the stage, and no statement stays."""
    context = context_of(real)
    pipeline.execute_shard(secrets.STAGE, context, Shard(1, 2))
    with pytest.raises(InputMissing, match="shard 2/2 is missing; run `nox -s secrets -- --shard 2/2`"):
        pipeline.execute(secrets.STAGE, context, shards_of=2)
    pipeline.execute_shard(secrets.STAGE, context, Shard(2, 2))
    pipeline.execute(secrets.STAGE, context, shards_of=2)
    found = shards.place(context.out, "secrets", Shard(2, 2)) / shards.PART / "found.json"
    kept = found.read_bytes()
    found.write_bytes(kept.replace(b'"entries": {', b'"entries": {"x": {}, '))
    with pytest.raises(VerificationFailed, match="changed since it was stated"):
        pipeline.execute(secrets.STAGE, context, shards_of=2)
    found.write_bytes(kept)
    track(real, "new.txt", planted(24))
    with pytest.raises(VerificationFailed, match="made from other inputs"):
        pipeline.execute(secrets.STAGE, context_of(real), shards_of=2)
    assert not context.statement_path("secrets").exists()


@pytest.mark.e2e
def test_a_file_that_git_would_let_be_added_is_scanned(real: Path) -> None:
    """Untracked is scanned, ignored is not."""
    track(real, ".gitignore", "ignored.txt\n")
    (real / "untracked.txt").write_text(planted(25))
    (real / "ignored.txt").write_text(planted(26))
    assert [finding.path for finding in execute(secrets.STAGE, context_of(real)).findings] == ["untracked.txt"]


@pytest.mark.e2e
def test_archives_and_encodings_are_opened(real: Path) -> None:
    """A secret in a wheel in an archive, and under base64 twice, is found and said to have been there."""
    key = planted(27)
    inner, outer = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("deep/settings.py", f"KEY = '{key}'\n")
    with tarfile.open(fileobj=outer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("a.whl")
        entry.size = len(inner.getvalue())
        tar.addfile(entry, io.BytesIO(inner.getvalue()))
    track(real, "dist.tar.gz", outer.getvalue())
    twice = base64.b64encode(base64.b64encode(f"aws {key} key".encode()))
    track(real, "blob.txt", b"blob of " + twice)
    context = context_of(real)
    execute(secrets.STAGE, context)
    scan = json.loads((context.evidence("secrets") / "scan.json").read_bytes())
    assert {entry["path"]: entry["layers"] for entry in scan["findings"]} == {
        "dist.tar.gz": ["archive"],
        "blob.txt": ["base64", "base64"],
    }
    coverage = json.loads((context.evidence("secrets") / "coverage.json").read_bytes())
    assert coverage["decoded"]["archive"] == 1
    assert coverage["decoded"]["base64"] >= 2
    assert coverage["texts"] == coverage["plain"] + coverage["decoded"]["archive"] == coverage["scanned"]
    assert_nowhere(key, context.out)


@pytest.mark.e2e
def test_evidence_in_the_tree_is_no_finding_and_hides_none(real: Path) -> None:
    """What a scan wrote and the rules it had, packed as a bundle packs them, say nothing; a secret beside them is found."""
    blobs = "".join(
        f"f(token=x, blob='{base64.b64encode(random.Random(seed).randbytes(33)).decode()}')\n" for seed in range(40)
    )
    track(real, "code.py", f"key = '{planted(12)}'\n{blobs}")
    first = context_of(real)
    assert failed(execute(secrets.STAGE, first)) == {"secrets.clean"}
    (real / "code.py").write_text("pass\n")
    rules = [(f"policy/secrets/{path.name}", path.read_bytes()) for path in sorted((ROOT / "policy" / "secrets").iterdir())]
    evidence = [
        (f"evidence/{name}", (first.out / "evidence" / name).read_bytes()) for name in files.walk_files(first.out / "evidence")
    ]
    renamed = [(f"evidence/bundle/{name.rpartition('/')[2].replace('scan', 'secrets')}", data) for name, data in evidence]
    track(real, "kept/first.evidence.tar", packed([*rules, *evidence, *renamed]))
    clean = execute(secrets.STAGE, context_of(real))
    assert (clean.verdict, clean.findings) == (Verdict.PASSED, ())
    track(
        real, "kept/first.evidence.tar", packed([*rules, *evidence, ("policy/secrets/rules.yml", f"# {planted(12)}".encode())])
    )
    found = execute(secrets.STAGE, context_of(real)).findings
    assert [finding.path for finding in found] == ["kept/first.evidence.tar"]


def packed(members: list[tuple[str, bytes]]) -> bytes:
    """Return a tar of *members*."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.e2e
def test_inline_pragmas_count_only_where_policy_says_so_and_are_listed_one_by_one(real: Path) -> None:
    """Each is named with its path and line, those that only the history holds too; under an encoding at the line around it."""
    keys = [planted(number) for number in range(30, 33)]
    track(real, "old.py", f"\nKEY = '{keys[0]}'  # nosecret\n")
    git(real, "commit", "--quiet", "--message=one")
    git(real, "rm", "--quiet", "old.py")
    track(
        real,
        "new.py",
        f"KEY = '{keys[1]}'  # gitleaks:allow\n\n{base64.b64encode(f'{keys[2]} # nosecret'.encode()).decode()}\n",
    )
    git(real, "commit", "--quiet", "--message=two")
    assert {finding.path for finding in execute(secrets.STAGE, context_of(real)).findings} == {"new.py", "old.py"}
    gates = real / "policy" / "gates.toml"
    gates.write_text(gates.read_text().replace("[secrets.excluded]", "[secrets]\npragmas = true\n[secrets.excluded]"))
    context = context_of(real)
    assert execute(secrets.STAGE, context).findings == ()
    assert json.loads((context.evidence("secrets") / "coverage.json").read_bytes())["pragmas"] == [
        {"path": "new.py", "line": 1, "where": "tree"},
        {"path": "new.py", "line": 3, "where": "tree"},
        {"path": "old.py", "line": 2, "where": "history"},
    ]


def test_archives_of_the_history_that_cannot_be_read_fail_unless_policy_excludes_their_path(root: Path) -> None:
    """A damaged archive is named, wherever it stands; a path that policy excludes is excluded in the history too."""
    past = {"blobs": 2, "commits": 0, "tags": 0, "scanned": 2, "decoded": {}}
    gates = root / "policy" / "gates.toml"
    gates.write_text(gates.read_text().replace("[secrets.excluded]", '[secrets.excluded]\n"made" = "damaged"\n#'))
    for path, wanted in (("made/up.zip", OutcomeKind.PASSED), ("made.zip", OutcomeKind.FAILED)):
        context = recorded(root, history={**past, "skipped": {f"{path}!a": "an archive that is damaged or encrypted"}})
        listing = context.evidence("secrets") / "listing.json"
        listing.write_text(json.dumps(json.loads(listing.read_bytes()) | {"history": {"tips": ["a" * 40]}}))
        said = secrets.STAGE.judge(context)
        assert next(each.outcome for each in said.outcomes if each.control == "secrets.coverage") is wanted
        shutil.rmtree(context.out)


def test_sums_of_texts_that_do_not_agree_fail_coverage(root: Path) -> None:
    """A file that is said to be read in no text at all was not scanned."""
    scanned = json.loads(RECORDED.read_bytes())["scanned"]
    scanned[0]["members"] = 0
    judgement = secrets.STAGE.judge(recorded(root, scanned=scanned))
    coverage = next(outcome for outcome in judgement.outcomes if outcome.control == "secrets.coverage")
    assert coverage.outcome is OutcomeKind.FAILED
    assert "the sums of its texts do not agree" in coverage.seen


@pytest.mark.e2e
def test_what_is_left_out_is_counted_with_its_reason(real: Path, tmp_path: Path) -> None:
    """A link and what policy excludes are skipped, said so, and the sums agree."""
    key = planted(10)
    (tmp_path / "outside.txt").write_text(key)
    (real / "link.txt").symlink_to(tmp_path / "outside.txt")
    git(real, "add", "link.txt")
    track(real, "recorded/report.json", json.dumps({"key": key}))
    gates = real / "policy" / "gates.toml"
    gates.write_text(gates.read_text().replace("[secrets.excluded]", '[secrets.excluded]\n"recorded" = "made-up keys"\n#'))
    context = context_of(real)
    said = execute(secrets.STAGE, context)
    coverage = json.loads((context.evidence("secrets") / "coverage.json").read_bytes())
    assert said.verdict is Verdict.PASSED
    assert coverage["skipped"] == {
        "link.txt": "link, not followed",
        "recorded/report.json": "excluded by policy: made-up keys",
    }
    assert coverage["listed"] == coverage["scanned"] + 2
    assert f"{coverage['listed']} listed = {coverage['scanned']} scanned + 2 skipped" in outcome(said, "secrets.coverage").seen


@pytest.mark.e2e
def test_a_tracked_file_that_is_not_there_fails_coverage(real: Path) -> None:
    """Nothing tracked goes unscanned in silence."""
    track(real, "gone.txt", "x").unlink()
    said = execute(secrets.STAGE, context_of(real))
    assert failed(said) == {"secrets.coverage"}
    assert "gone.txt" in outcome(said, "secrets.coverage").seen


@pytest.mark.e2e
def test_folders_named_on_the_command_line_are_scanned_tracked_or_not(real: Path, tmp_path: Path) -> None:
    """`nox -s secrets -- PATH...` needs no repository and judges nothing else."""
    key = planted(11)
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    (other / "deep" / "key.txt").write_text(key)
    track(real, "ignored.txt", planted(12))
    said = execute(secrets.STAGE, context_of(real, other))
    assert [finding.path for finding in said.findings] == ["other/deep/key.txt"]


@pytest.mark.e2e
def test_the_same_tree_gives_the_same_evidence(tmp_path: Path) -> None:
    """Two checkouts in two places leave equal bytes."""
    left = []
    for name in ("one", "two with a space"):
        root = repository(tmp_path / name)
        use_environments(root, "secrets")
        track(root, "key.txt", f"{planted(13)}\n{planted(14)}\n")
        context = context_of(root)
        execute(secrets.STAGE, context)
        folder = context.evidence("secrets")
        left.append({file: (folder / file).read_bytes() for file in files.walk_files(folder)})
    assert left[0] == left[1]


@pytest.mark.e2e
def test_this_project_holds_no_secret(tmp_path: Path) -> None:
    """Our own tree, tests and recordings included, is clean under our own policy."""
    left_out = (".git", ".venv", ".nox", "build", "artifacts", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, tmp_path / "tree", ignore=shutil.ignore_patterns(*left_out))
    git(tmp_path / "tree", "init", "--quiet")
    git(tmp_path / "tree", "add", "--all")
    use_environments(tmp_path / "tree", "secrets")
    said = execute(secrets.STAGE, context_of(tmp_path / "tree"))
    assert [finding.message for finding in said.findings] == []
    assert failed(said) == set()


# -- what can go wrong before and around the scanner


def test_without_a_repository_there_is_a_clear_error(root: Path) -> None:
    """No repository: exit 3, and what to do."""
    (root / ".git").rename(root / ".moved")
    with pytest.raises(InputMissing, match=r"no git repository.*nox -s secrets -- PATH"):
        secrets.STAGE.inputs(context_of(root))


def test_without_git_there_is_a_clear_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No git: a tool is missing, exit 4."""
    context = context_of(root)
    monkeypatch.setenv("PATH", str(root / "nowhere"))
    with pytest.raises(ToolFailed, match="git: not found"):
        secrets.STAGE.inputs(context)


def test_a_broken_repository_is_a_failed_tool(root: Path) -> None:
    """An index that git cannot read is never an empty list of files."""
    (root / ".git" / "index").write_bytes(b"garbage")
    with pytest.raises(ToolFailed, match="git: "):
        secrets.STAGE.inputs(context_of(root))


def test_a_target_that_does_not_exist_is_an_error(root: Path) -> None:
    """trufflehog3 calls a missing path clean; this stage does not."""
    with pytest.raises(InputMissing, match="there is no"):
        secrets.STAGE.inputs(context_of(root, root / "nowhere"))


def test_an_empty_folder_is_not_clean(root: Path) -> None:
    """Nothing to scan is an error, not a pass."""
    (root / "empty").mkdir()
    with pytest.raises(InputMissing, match="nothing to scan"):
        secrets.STAGE.inputs(context_of(root, root / "empty"))


def test_every_byte_of_every_tracked_file_is_an_input(root: Path) -> None:
    """A changed byte, a renamed and a new file each change the inputs, and so the reuse key."""
    path = track(root, "a.txt", "one")
    seen = [secrets.STAGE.inputs(context_of(root))]
    path.write_text("two")
    seen.append(secrets.STAGE.inputs(context_of(root)))
    git(root, "mv", "a.txt", "b.txt")
    seen.append(secrets.STAGE.inputs(context_of(root)))
    assert len({json.dumps(dict(inputs)) for inputs in seen}) == 3


def test_names_that_are_not_utf8_are_listed_escaped(root: Path) -> None:
    """A file's name is bytes; none of them stops the scan."""
    path = root / b"caf\xe9.txt".decode("utf-8", "surrogateescape")
    path.write_text("x")
    git(root, "add", "--all", ".")
    listing, places = secrets._list(context_of(root))
    assert "caf\\xe9.txt" in {entry.path for entry in listing.files}
    assert places["caf\\xe9.txt"] == path


def test_an_allow_entry_that_does_not_compile_is_named(root: Path) -> None:
    """A broken pattern of policy is the user's to mend: exit 2."""
    allow = root / "policy" / "secrets" / "allow.toml"
    allow.write_text(allow.read_text().replace("secret = '[0-9a-f]{64}'", "secret = '[0-9a-f'", 1))
    with pytest.raises(UsageError, match=r"lock-hash.*expected a regular expression"):
        read_allowed(root / "policy" / "secrets" / "allow.toml")


# -- a scanner that fails

OF_THE_TOOL = "from pathlib import Path\nDEFAULT_RULES_FILE = Path(__file__)\n"
MODELS = """
import os, re, sys, time
from pathlib import Path


class SafeLoader:
    pass


class Rule:
    message = severity = "LOW"
    _pattern = re.compile("(?!)")

    @classmethod
    def fromdict(cls, entry):
        made = cls()
        made.id = entry["id"]
        return made

    def findall(self, line):
        return found(self.id, line)


def named(data):
    ours = re.findall("(?m)^- id: (.*)$", data.decode())
    return [{"id": id, "pattern": "(?!)", "message": "m"} for id in ours or ["amazon.aws-api-key", *STOCK]]


STOCK = ("generic.api-key", "generic.secret", "github.token", "facebook.oauth-token", "twitter.oauth-token",
         "twitter.access-token", "generic.password-in-url", "private.key", "private.pgp-key", "high-entropy",
         "google.gcp-service-account", "google.oauth-token")


def found(id, line):
    return re.findall("AKIA[0-9A-Z]{16}", line) if id == "amazon.aws-api-key" else []


def load(data, Loader):
    return named(data)


"""


def fake_scanner(root: Path, run: str = "") -> None:
    """Put a made-up trufflehog3, changed by *run*, into a made-up environment with this interpreter."""
    venv = venvs.locate(root, "secrets")
    package = venv.path / "lib" / "trufflehog3"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(OF_THE_TOOL)
    (package / "models.py").write_text("from yaml import Rule\n")
    (package.parent / "yaml.py").write_text(MODELS + run + "\n")
    (venv.path / "bin").mkdir()
    start = f"import sys, runpy; sys.path.insert(0, {str(package.parent)!r}); sys.argv = sys.argv[1:]; "
    start += "runpy.run_path(sys.argv[0], run_name='__main__')"
    python = venv.path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -I -B -c "{start}" "$@"\n')
    python.chmod(0o755)
    (venv.path / "sealrun-venv.json").write_text("{}")


def limit(root: Path, seconds: int) -> None:
    """Bound what a program of the stage may take."""
    gates = root / "policy" / "gates.toml"
    gates.write_text(gates.read_text().replace("default = 600", f"default = {seconds}"))


def stated(root: Path) -> StagePredicate:
    return execute(secrets.STAGE, context_of(root))


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("def found(id, line): return []", "did not report the canary"),
        ("def load(data, Loader): return []", "there is no rule"),
        ("def load(data, Loader): return None", "TypeError at"),
        ("def load(data, Loader): return ['garbage']", "AttributeError at"),
        ("def load(data, Loader): sys.exit('MADE-UP-' + 'PASSWORD')", "SystemExit at"),
        ("def load(data, Loader): raise RuntimeError('MADE-UP-' + 'PASSWORD')", "RuntimeError at"),
        ("def found(id, line):\n    return [line] if 'AKIA0' in line else 1 // 0", "ZeroDivisionError at"),
        ("print('MADE-UP-' + 'PASSWORD'); os.write(2, b'MADE-UP-' + b'PASSWORD'); os.kill(os.getpid(), 9)", "SIGKILL"),
    ],
)  # fmt: skip
def test_a_scanner_that_fails_is_an_error_and_its_words_are_kept_back(root: Path, run: str, said: str) -> None:
    """Blind, silent, garbled, refused or crashed: verdict error, exit 4, and nothing it said in a log."""
    fake_scanner(root, run)
    statement = stated(root)
    assert (statement.verdict, statement.error_code) == (Verdict.ERROR, 4)
    assert said in statement.error
    assert_nowhere("MADE-UP-" + "PASSWORD", root / "build")


def test_a_scanner_that_hangs_is_ended(root: Path) -> None:
    """Policy's limit holds: verdict error, exit 4."""
    fake_scanner(root, "def load(data, Loader): time.sleep(60)")
    limit(root, 1)
    statement = stated(root)
    assert (statement.verdict, statement.error_code) == (Verdict.ERROR, 4)
    assert "still running after 1 s" in statement.error


def test_a_scanner_that_is_missing_is_an_error(root: Path) -> None:
    """An environment without its program: verdict error, exit 4."""
    fake_scanner(root)
    (venvs.locate(root, "secrets").path / "bin" / "python").unlink()
    statement = stated(root)
    assert (statement.verdict, statement.error_code) == (Verdict.ERROR, 4)


def test_an_environment_that_is_not_installed_is_named(root: Path) -> None:
    """Exit 3 names the command that installs it."""
    statement = stated(root)
    assert (statement.verdict, statement.error_code) == (Verdict.ERROR, 3)
    assert "install secrets" in statement.error


# -- the judge, on recorded evidence


def recorded(root: Path, **changes: object) -> Context:
    """Return a context whose evidence is the recorded scan, with *changes* to it."""
    context = context_of(root)
    scan = json.loads(RECORDED.read_bytes()) | changes
    folder = context.evidence("secrets")
    folder.mkdir(parents=True)
    (folder / "scan.json").write_text(json.dumps(scan))
    kept = [{"path": e["path"], "sha256": e["sha256"], "size": 1} for e in json.loads(RECORDED.read_bytes())["scanned"]]
    listing = {"format": "sealrun/secrets-listing-v2", "files": kept, "skipped": {}}
    (folder / "listing.json").write_text(json.dumps(listing))
    return context


def test_a_recorded_scan_is_judged(root: Path) -> None:
    """What the real scanner left: a finding per secret and file, coverage complete."""
    judgement = secrets.STAGE.judge(recorded(root))
    kinds = {outcome.control: outcome.outcome.value for outcome in judgement.outcomes}
    assert kinds == {"secrets.clean": "failed", "secrets.coverage": "passed"}
    assert [(f.path, f.line, f.rule) for f in judgement.findings] == [
        ("settings.py", 1, "amazon.aws-api-key"),
        ("settings.py", 2, "url.password"),
    ]


def test_a_file_without_a_scan_is_an_error(root: Path) -> None:
    """Scanned is listed, or there is no verdict."""
    scanned = json.loads(RECORDED.read_bytes())["scanned"][:-1]
    with pytest.raises(ToolFailed, match="not the files listed"):
        secrets.STAGE.judge(recorded(root, scanned=scanned))


def test_findings_beyond_those_reported_fail(root: Path) -> None:
    """A count of more findings is never lost."""
    judgement = secrets.STAGE.judge(recorded(root, findings=[], unreported=3))
    clean = next(outcome for outcome in judgement.outcomes if outcome.control == "secrets.clean")
    assert clean.outcome is OutcomeKind.FAILED
    assert "3 findings more" in clean.seen


@pytest.mark.parametrize("garbage", [b"", b"{}", b"[]", b"\xff\xfe"])
def test_a_garbled_scan_is_a_failed_tool(root: Path, garbage: bytes) -> None:
    """A report that is not one is never read as clean."""
    context = recorded(root)
    (context.evidence("secrets") / "scan.json").write_bytes(garbage)
    with pytest.raises(ToolFailed):
        secrets.STAGE.judge(context)


def test_the_recorded_scan_holds_no_secret() -> None:
    """A scan report decodes strictly, and has no field in which a secret could stand."""
    scan = files.decode(RECORDED.read_bytes(), SecretScan, "recorded")
    assert {field for finding in scan.findings for field in finding.__struct_fields__} == {
        "rule", "message", "severity", "path", "line", "commit", "layers", "where", "fingerprint",
    }  # fmt: skip


def test_reuse_needs_no_second_scan(root: Path) -> None:
    """Unchanged files under an unchanged policy are not scanned twice."""
    fake_scanner(root)
    context = context_of(root)
    assert execute(secrets.STAGE, context).verdict is Verdict.PASSED
    assert pipeline.rejudge(secrets.STAGE, context)
    track(root, "new.txt", "new")
    assert pipeline.rejudge(secrets.STAGE, context) is None
