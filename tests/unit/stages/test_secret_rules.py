"""The rules of the secret scan against the labelled corpus, trufflehog3 itself, and the scan without its filter."""

import json
import random
import subprocess
import tomllib
from pathlib import Path

import pytest

from sealrun import files, venvs
from sealrun.errors import InputMissing
from sealrun.stages import secrets
from tests.conftest import ROOT
from tests.secret_corpus import EXAMPLES, THEIRS, corpus, findings_of_trufflehog3, haystack
from tests.small import context_of, execute, repository, use_environments

RULES = ROOT / "policy" / "secrets" / "rules.yml"
RECALL, FALSE_ALARMS = 0.97, 0.02


def ids() -> set[str]:
    """The ids of policy's rules."""
    return {line.removeprefix("- id: ") for line in RULES.read_text("utf-8").splitlines() if line.startswith("- id: ")}


def python() -> Path:
    """The interpreter of the secrets environment; skips the test without one."""
    try:
        return venvs.existing(ROOT, "secrets").python
    except InputMissing as error:
        pytest.skip(str(error))


def test_the_corpus_is_large_and_every_rule_has_an_example() -> None:
    """At least 120 secrets of 60 kinds and 120 lookalikes; no rule without an example, no example without a rule."""
    said = tomllib.loads(EXAMPLES.read_text("utf-8"))
    kinds = {rule for rule, _, _ in said["found"]}
    assert len(said["found"]) >= 120
    assert len(kinds) >= 60
    assert len(said["ignored"]) >= 120
    assert kinds == ids()


@pytest.mark.e2e
def test_the_corpus_is_found_and_its_lookalikes_are_not(tmp_path: Path) -> None:
    """Recall is at least 97 %, false alarms at most 2 %, and no made-up secret stands in anything that is written."""
    root = repository(tmp_path / "repository")
    use_environments(root, "secrets")
    entries = corpus()
    for entry in entries:
        path = tmp_path / "corpus" / f"{entry.number:03d}" / entry.path
        path.parent.mkdir(parents=True)
        path.write_text(entry.text + "\n")
    context = context_of(root, tmp_path / "corpus")
    said = execute(secrets.STAGE, context)
    found = {int((finding.path or "").split("/")[1]) for finding in said.findings}
    missed = [entry for entry in entries if entry.rule and entry.number not in found]
    alarms = [entry for entry in entries if not entry.rule and entry.number in found]
    planted = sum(bool(entry.rule) for entry in entries)
    assert len(missed) <= (1 - RECALL) * planted, missed
    assert len(alarms) <= FALSE_ALARMS * (len(entries) - planted), alarms
    written = b"".join((context.out / name).read_bytes() for name in files.walk_files(context.out))
    assert not [text for entry in entries if entry.rule for text in entry.made_up if len(text) > 7 and text.encode() in written]


COMPARE = """
import json, sys
sys.path.append(sys.argv[1])
from pathlib import Path
from sealrun.inside import secret_filter, secret_rules
from sealrun.inside.secret_text import lines_of
from trufflehog3.models import File
from trufflehog3.search import search
rules = secret_rules.load(Path(sys.argv[2]), sparing=False)
stock = [rule for rule in rules.rules if not rule.own]
differ = []
for path in sorted(Path(sys.argv[3]).iterdir()):
    text = path.read_bytes().decode()
    issues = search(File(path=path.name, content=text), [r.model for r in stock], ignore_nosecret=True)
    theirs = {(i.rule.id, int(i.line), i.secret) for i in issues}
    flat, _ = lines_of(text)
    lines, data, ours = flat.split("\\n"), flat.encode(), set()
    for begin, numbers in rules.filter.candidates(data + secret_filter.CANARY).items():
        at = data.count(b"\\n", 0, begin)
        if begin < len(data):
            ours |= {(r.id, at + 1, m.secret) for r in stock if r.number in numbers for m in r.matches(lines[at])}
    if theirs != ours:
        differ.append([path.name, len(theirs - ours), len(ours - theirs)])
print(json.dumps([differ, rules.filter is not None]))
"""


@pytest.mark.e2e
def test_the_filter_loses_none_of_trufflehog3s_findings(tmp_path: Path) -> None:
    """Under its own rules, the filter and its code give exactly what trufflehog3 gives without a filter."""
    folder = tmp_path / "haystacks"
    folder.mkdir()
    for seed in range(40):
        (folder / f"{seed:02d}.txt").write_bytes(haystack(random.Random(seed)).encode())
    done = subprocess.run(
        [python(), "-I", "-B", "-c", COMPARE, ROOT / "scripts", RULES.parent, folder],
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == [[], True]


@pytest.mark.e2e
def test_patched_trufflehog3_finds_what_the_unpatched_one_does(tmp_path: Path) -> None:
    """Its own program in our environment reports exactly what was recorded of it with the versions that it asks for."""
    recorded = json.loads(THEIRS.read_bytes())
    assert recorded["pins"]["gitpython"] == "3.1.41"
    found = findings_of_trufflehog3(python(), tmp_path)  # texts that came later were not recorded
    assert recorded["findings"] == {name: said for name, said in found.items() if name in recorded["findings"]}
    assert sum(count for count, _ in recorded["findings"].values()) > 1000


@pytest.mark.e2e
def test_without_the_filter_the_findings_are_the_same(tmp_path: Path) -> None:
    """Where Vectorscan is not installed the scan is slower, and the report equal byte for byte."""
    listed = []
    for entry in corpus(2)[::5]:
        path = tmp_path / f"{entry.number:03d}" / entry.path
        path.parent.mkdir(parents=True)
        path.write_text(entry.text + "\n")
        listed.append({"path": f"{entry.number:03d}/{entry.path}", "file": str(path), "sha256": sha256(path)})
    reports = []
    for filtered in (True, False):
        scratch = tmp_path / f"scratch-{filtered}"
        scratch.mkdir()
        job = {"files": listed, "allow": [], "policy": str(RULES.parent), "filter": filtered}
        (scratch / "job.json").write_text(json.dumps(job))
        script = ROOT / "scripts" / "sealrun" / "inside" / "scan_secrets.py"
        subprocess.run([python(), "-I", "-B", script, scratch / "job.json", scratch, scratch / "scan.json"], check=True)
        reports.append(json.loads((scratch / "scan.json").read_bytes()) | {"aside": {}})
    assert reports[0]["findings"]
    assert reports[0] == reports[1]


def sha256(path: Path) -> str:
    from sealrun import digest

    return digest.of_file(path)
