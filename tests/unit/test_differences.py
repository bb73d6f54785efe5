"""Laws of explaining: each difference names the input that caused it, and nothing else; one without a cause says so."""

from collections.abc import Mapping

import pytest

from sealrun import digest, files
from sealrun.evidence.statement import Resource, Sha256Set, StagePredicate, StageStatement, Tool, resources
from sealrun.outcome import OutcomeKind, verdict
from sealrun.reports.differences import Explained, Side, explain
from tests.bundles import outcome

LOCK = "pip-audit==2.10.1 --hash=sha256:" + "0" * 64 + "\n"
POLICY = "[profile.release]\nmax_ratio = 1.02\n"


def side(
    *, audit_lock: str = LOCK, policy: str = POLICY, weights: bytes = b"w", code: bytes = b"c", python: str = "3.12.1",
    noise: bytes = b"", tree: bytes = b"",
) -> Side:  # fmt: skip
    """A bundle of five stages: audit reads its lock, model the weights, certify what model left, secrets the tree, bundle the
    statements of the others."""
    inputs: dict[str, dict[str, bytes]] = {
        "audit": {"requirements/audit.txt": audit_lock.encode(), "audit": audit_lock.encode(), "installed/audit": b""},
        "model": {"candidate/model.onnx": weights},
        "certify": {"candidate/model.onnx": weights, "evidence/model/digests.json": weights},
        "secrets": {"tree": audit_lock.encode() + policy.encode() + weights + code + tree},
    }
    left = {"audit": audit_lock.encode(), "model": weights, "certify": weights + noise, "secrets": b"[]"}
    inputs["bundle"] = {
        f"statements/{stage}": digest.canonical_json(left[stage].hex()) for stage in ("audit", "model", "certify")
    }
    left["bundle"] = b"".join(inputs["bundle"].values())
    evidence = {f"evidence/{stage}/digests.json": data for stage, data in left.items()}
    statements = {stage: _statement(stage, inputs[stage], left[stage], audit_lock, policy, code, python) for stage in inputs}
    written = {f"statements/{stage}.json": files.readable_json(said) for stage, said in statements.items()}
    members = {"policy/gates.toml": policy.encode(), "requirements/audit.txt": audit_lock.encode(), **evidence, **written}
    return Side(
        members={name: digest.of_bytes(data) for name, data in members.items()}, read=members.__getitem__, statements=statements
    )


def _statement(
    stage: str, inputs: Mapping[str, bytes], left: bytes, lock: str, policy: str, code: bytes, python: str
) -> StageStatement:
    said = (outcome(f"{stage}.x", OutcomeKind.PASSED),)
    tool = Tool(
        name="pip-audit", version=lock.split("==")[1].split()[0], environment="audit", lock=digest.of_bytes(lock.encode())
    )
    found = tuple(Resource(name=name, digest=Sha256Set(sha256=digest.of_bytes(data))) for name, data in inputs.items())
    plan = digest.of_bytes(policy.encode())
    key = digest.of_json([plan, python, code.decode(), [r.digest.sha256 for r in found]])
    return StageStatement(
        subject=resources((digest.FileDigest(path="digests.json", sha256=digest.of_bytes(left), size=len(left)),)),
        predicate=StagePredicate(
            stage=stage, sealrun="0.1.0", python=python, plan=plan, judged_at="2026-01-15", reuse_key=key, inputs=found,
            tools=(tool,) if stage == "audit" else (), network="denied", verdict=verdict(said), outcomes=said,
        ),
    )  # fmt: skip


def causes_of(found: Explained, prefix: str) -> set[str]:
    """The causes of the differences below *prefix*."""
    return {cause for difference in found.differences if difference.member.startswith(prefix) for cause in difference.causes}


def test_the_same_has_no_difference() -> None:
    """Equal sides differ in nothing, for no reason."""
    assert explain(side(), side(), ()) == Explained(differences=(), causes={})


def test_a_tool_of_another_version() -> None:
    """The pin is named with both versions, and it reaches its own stage, not those that do not use it."""
    found = explain(side(), side(audit_lock=LOCK.replace("2.10.1", "2.10.0")), ("requirements/audit.txt",))
    assert found.causes == {"requirements/audit.txt": "pip-audit 2.10.1 became 2.10.0"}
    assert causes_of(found, "evidence/audit") == {"requirements/audit.txt"}
    assert not causes_of(found, "evidence/model")
    assert causes_of(found, "evidence/bundle") == {"requirements/audit.txt"}


def test_other_hashes_of_the_same_pin() -> None:
    """A lock that differs in hashes alone says so."""
    found = explain(side(), side(audit_lock=LOCK.replace("0" * 64, "1" * 64)), ())
    assert found.causes == {"requirements/audit.txt": "hashes or comments changed"}


def test_another_line_of_policy() -> None:
    """The line is named, before and after, and reaches every stage, since each is judged under the plan."""
    found = explain(side(), side(policy=POLICY.replace("1.02", "1.05")), ("policy/gates.toml",))
    assert found.causes == {"policy/gates.toml": "line 2: max_ratio = 1.02 became max_ratio = 1.05"}
    assert causes_of(found, "statements/") == {"policy/gates.toml"}


def test_other_weights() -> None:
    """The model file is named by its digests, once, and reaches what was made from it by way of other stages."""
    found = explain(side(), side(weights=b"W"), ("examples/tiny-lm/candidate/model.onnx",))
    old, new = digest.of_bytes(b"w"), digest.of_bytes(b"W")
    assert found.causes == {"candidate/model.onnx": f"sha256 {old} became {new}"}
    assert causes_of(found, "evidence/certify") == causes_of(found, "evidence/model") == {"candidate/model.onnx"}
    assert causes_of(found, "statements/bundle") == {"candidate/model.onnx"}


def test_code_of_our_own() -> None:
    """A changed source file is named by its path, and reaches every stage whose reuse key it is part of."""
    found = explain(side(), side(code=b"C"), ("scripts/sealrun/stage.py",))
    assert found.causes == {"scripts/sealrun/stage.py": "changed since the bundle's commit"}
    assert causes_of(found, "statements/model") == {"scripts/sealrun/stage.py"}


def test_a_file_that_only_the_secret_scan_reads() -> None:
    """A changed document reaches the stage that scans the tree, and no other."""
    found = explain(side(), side(tree=b"t"), ("README.md",))
    assert {difference.member for difference in found.differences} == {"statements/secrets.json"}
    assert causes_of(found, "") == {"README.md"}


def test_another_interpreter() -> None:
    """The interpreter's version is a cause of everything."""
    found = explain(side(), side(python="3.12.9"), ())
    assert found.causes == {"Python": "3.12.1 became 3.12.9"}
    assert causes_of(found, "statements/") == {"Python"}


def test_a_difference_without_a_cause() -> None:
    """Other bytes from the same inputs have no cause, which is what not reproducible means."""
    found = explain(side(), side(noise=b"\xff noise"), ())
    assert not found.causes
    assert {difference.member for difference in found.differences} == {
        "evidence/certify/digests.json",
        "statements/certify.json",
        "evidence/bundle/digests.json",
        "statements/bundle.json",
    }
    assert not causes_of(found, "")


def test_two_changes_are_kept_apart() -> None:
    """Each difference names its own cause."""
    found = explain(side(), side(audit_lock=LOCK.replace("2.10.1", "2.10.0"), weights=b"W"), ())
    assert set(found.causes) == {"requirements/audit.txt", "candidate/model.onnx"}
    assert causes_of(found, "evidence/audit") == {"requirements/audit.txt"}
    assert causes_of(found, "evidence/certify") == {"candidate/model.onnx"}


@pytest.mark.parametrize("gone", ["evidence/certify/digests.json", "statements/secrets.json"])
def test_what_was_not_made_again(gone: str) -> None:
    """A member that is missing is a difference."""
    whole = side()
    less = Side(
        members={name: sha256 for name, sha256 in whole.members.items() if name != gone}, read=whole.read,
        statements={stage: said for stage, said in whole.statements.items() if gone != f"statements/{stage}.json"},
    )  # fmt: skip
    assert [(found.member, found.how) for found in explain(whole, less, ()).differences] == [(gone, "not made again")]
