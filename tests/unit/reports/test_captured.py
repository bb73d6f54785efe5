"""What InvarLock is given can be predicted: every digest it signs is computed here first."""

import json
from pathlib import Path

import pytest

from sealrun import digest
from sealrun.policy.model import Profile
from sealrun.reports import captured, invarlock
from sealrun.reports.records import parse_cases, parse_records

RECORDED = Path(__file__).parents[2] / "recorded" / "invarlock"
LIMITS = Profile(
    min_cases=10, min_windows=10, min_tokens=500, min_replicates=2000, max_ratio=1.02, max_interval_width=0.02,
    max_regression=0.02, witness_cases=4,
)  # fmt: skip


def question(recorded: str) -> captured.Question:
    """Ask again what was asked when *recorded* was made."""
    home = RECORDED / recorded
    cases = parse_cases((home / "release" / "data.jsonl").read_bytes(), "text", "data")
    found = json.loads((home / "model" / "digests.json").read_bytes())
    scored, runs = {}, {}
    for role in ("baseline", "candidate"):
        scored[role] = parse_records((home / "certify" / "records" / f"{role}.jsonl").read_bytes(), role)
        lines = "".join(f"{entry['sha256']}  {entry['path']}\n" for entry in sorted(found[role], key=lambda e: e["path"]))
        runs[role] = captured.run(scored[role], cases, role=role, artifact=digest.of_bytes(lines.encode()))
    tokenizers = scored["baseline"].header.tokenizer_sha256, scored["candidate"].header.tokenizer_sha256
    policy = captured.policy(LIMITS, cases, window=1024, tokenizers=tokenizers)
    return captured.Question(baseline=runs["baseline"], candidate=runs["candidate"], policy=policy)


@pytest.mark.parametrize("recorded", ["candidate", "damaged"])
def test_the_pack_holds_what_was_asked(recorded: str) -> None:
    """Runs, policy and request are predicted byte for byte, and so are their digests in the manifest."""
    asked = question(recorded)
    pack = RECORDED / recorded / "certify" / "certificate"
    for name, value in (
        ("records/baseline.json", asked.baseline),
        ("records/subject.json", asked.candidate),
        ("inputs/policy.json", asked.policy),
    ):
        assert (pack / name).read_bytes() == digest.canonical_json(value)
    manifest = invarlock.load(pack / "manifest.json", invarlock.Manifest)
    signed = {role: file.digest for role, file in manifest.files.items()}
    anchors = asked.anchors
    assert signed == {
        "baseline": anchors.baseline,
        "subject": anchors.candidate,
        "policy": anchors.policy,
        "request": anchors.request,
        "report": signed["report"],
    }


def test_the_policy_names_the_very_cases() -> None:
    """Another text makes another policy, so a certificate cannot be moved to other data."""
    home = RECORDED / "candidate" / "release"
    cases = parse_cases((home / "data.jsonl").read_bytes(), "text", "data")
    policies = [
        captured.policy(LIMITS, chosen, window=1024, tokenizers=("0" * 64, "0" * 64))
        for chosen in (cases, cases[1:], cases[::-1])
    ]
    assert policies[0] != policies[1]
    assert policies[0] == policies[2]


def test_a_case_without_a_number_stays_in_the_run() -> None:
    """InvarLock sees the error and no likelihood; leaving the case out would change what was measured."""
    home = RECORDED / "candidate"
    cases = parse_cases((home / "release" / "data.jsonl").read_bytes(), "text", "data")
    lines = (home / "certify" / "records" / "candidate.jsonl").read_bytes().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {"logprob_sum": None, "error": "logits are not finite"}).encode()
    rows = captured.run(parse_records(b"\n".join(lines) + b"\n", "records"), cases, role="candidate", artifact="0" * 64)[
        "records"
    ]
    assert [("likelihood" in row, row["error"]) for row in rows[:2]] == [(False, "logits are not finite"), (True, None)]
