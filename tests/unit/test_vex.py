"""VEX of others: what counts, and that everything else is named and excuses nothing."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sealrun.errors import UsageError
from sealrun.policy import vex
from sealrun.policy.model import Claim, VexGate

TODAY = date(2026, 3, 10)
GATE = VexGate(trusted=("Forms Project", "security@example.invalid"))
WHY = "vulnerable_code_not_in_execute_path"


def openvex(
    *, author: str = "Forms Project", timestamp: str = "2026-03-01T00:00:00Z", product: Any = None, **said: Any
) -> dict[str, Any]:
    """An OpenVEX document with one statement."""
    statement = {
        "vulnerability": {"name": "PYSEC-2026-1", "aliases": ["CVE-2026-0001"]}, "status": "not_affected", "justification": WHY,
        "products": [product or {"@id": "pkg:pypi/forms-kit@1.9"}], **said,
    }  # fmt: skip
    return {
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "urn:x", "author": author, "timestamp": timestamp, "version": 1,
        "statements": [{key: value for key, value in statement.items() if value is not None}],
    }  # fmt: skip


def cyclonedx(*, ref: str = "pkg:pypi/forms-kit@1.9", author: str = "Forms Project", **analysis: str) -> dict[str, Any]:
    """A CycloneDX VEX with one vulnerability."""
    said = {"state": "not_affected", "justification": "code_not_reachable", "lastUpdated": "2026-03-01T00:00:00Z", **analysis}
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"timestamp": "2026-02-01T00:00:00Z", "authors": [{"name": author}]},
        "components": [{"type": "library", "bom-ref": "forms", "name": "Forms_Kit", "purl": "pkg:pypi/Forms_Kit@1.9.0",
                        "components": [{"type": "library", "bom-ref": "part", "name": "six", "purl": "pkg:pypi/six@1.17.0"}]}],
        "vulnerabilities": [{"id": "CVE-2026-0001", "analysis": {k: v for k, v in said.items() if v}, "affects": [{"ref": ref}]}],
    }  # fmt: skip


def claims(*documents: dict[str, Any]) -> list[Claim]:
    return [claim for n, one in enumerate(documents) for claim in vex.parse(json.dumps(one).encode(), f"policy/vex/{n}.json")]


def excused(*documents: dict[str, Any], version: str = "1.9", package: str = "forms-kit", today: date = TODAY) -> bool:
    """Whether the documents excuse PYSEC-2026-1, known also as CVE-2026-0001."""
    names = frozenset({"PYSEC-2026-1", "CVE-2026-0001"})
    return vex.excuse(claims(*documents), GATE, names, package, version, today)[0] is not None


@pytest.mark.parametrize(
    "document",
    [
        openvex(),
        openvex(vulnerability={"name": "CVE-2026-0001"}),
        openvex(vulnerability={"name": "GHSA-x", "aliases": ["PYSEC-2026-1"]}),
        openvex(product={"@id": "urn:product", "identifiers": {"purl": "pkg:pypi/Forms.Kit@1.9"}}),
        openvex(author="security@example.invalid"),
        cyclonedx(),
        cyclonedx(ref="urn:cdx:5f3c1b1e-0000-4000-8000-000000000000/1#pkg%3Apypi%2Fforms-kit%401.9"),
        {**cyclonedx(), "metadata": {"supplier": {"name": "Forms Project"}}},
    ],
)
def test_a_trusted_author_excuses_the_exact_product(document: dict[str, Any]) -> None:
    """By either format, by an alias, by any spelling of the package's name."""
    assert excused(document)


def test_a_component_is_found_by_its_reference() -> None:
    """CycloneDX names components by references of its own."""
    assert excused(cyclonedx(ref="forms"), version="1.9.0")
    assert excused(cyclonedx(ref="part"), package="six", version="1.17.0")


@pytest.mark.parametrize(
    "document",
    [
        openvex(product={"@id": "pkg:pypi/forms-kit"}),
        openvex(product={"@id": "pkg:pypi/forms-kit@1.8"}),
        openvex(product={"@id": "pkg:pypi/forms-kit@1.9?extra=x"}),
        openvex(product={"@id": "pkg:pypi/forms-kit@1.9#part"}),
        openvex(product={"@id": "pkg:npm/forms-kit@1.9"}),
        openvex(product={"@id": "pkg:pypi/forms@1.9"}),
        openvex(product={"@id": "pkg:pypi/forms-kit@1.*"}),
        openvex(product={"@id": "pkg:pypi/forms-kit@1.9", "subcomponents": [{"@id": "pkg:pypi/six@1.17.0"}]}),
        openvex(vulnerability={"name": "PYSEC-2026-2"}),
        openvex(justification=None, impact_statement="we think not"),
        openvex(status="fixed", justification=None),
        openvex(status="under_investigation", justification=None),
        openvex(author="forms project"),
        openvex(author="Somebody"),
        openvex(timestamp="2026-03-11T00:00:00Z"),
        openvex(timestamp="soon"),
        cyclonedx(justification=""),
        cyclonedx(justification="because"),
        cyclonedx(state="false_positive"),
        cyclonedx(state="exploitable"),
        cyclonedx(state=""),
        cyclonedx(author="Somebody"),
        cyclonedx(ref="elsewhere"),
        cyclonedx(lastUpdated="2027-01-01T00:00:00Z"),
        {**cyclonedx(), "metadata": {}},
    ],
)
def test_everything_else_excuses_nothing(document: dict[str, Any]) -> None:
    """Another product, no version, no justification, an author nobody trusts, a day that has not come."""
    assert not excused(document)


def test_the_newest_claim_counts_and_a_tie_excuses_nothing() -> None:
    """Who took it back is heard; an untrusted voice neither excuses nor accuses."""
    old = openvex(timestamp="2026-01-01T00:00:00Z")
    back = openvex(timestamp="2026-02-01T00:00:00Z", status="affected", justification=None, action_statement="upgrade")
    assert not excused(old, back) and not excused(back, old)
    assert excused(back, openvex(timestamp="2026-03-01T00:00:00Z"))
    assert not excused(old, {**back, "timestamp": "2026-01-01T00:00:00Z"})
    assert excused(old, {**back, "author": "Somebody"})


def test_what_does_not_count_is_named() -> None:
    """The reader of the report learns which document was passed over, and why."""
    notes = vex.excuse(
        claims(openvex(author="Somebody"), openvex(justification=None)),
        GATE,
        frozenset({"PYSEC-2026-1"}),
        "forms-kit",
        "1.9",
        TODAY,
    )[1]
    assert len(notes) == 2 and "by Somebody, expected one of vex.trusted" in notes[0] and "justification" in notes[1]


def test_versions_listed_must_hold_the_pin(tmp_path: Path) -> None:
    """Where CycloneDX lists versions, the pin's is among them as unaffected."""
    document = cyclonedx()
    for versions, expected in (
        ([{"version": "1.9", "status": "unaffected"}], True), ([{"version": "1.9", "status": "affected"}], False),
        ([{"version": "1.8", "status": "unaffected"}], False), ([{"range": "vers:pypi/>1"}], False),
    ):  # fmt: skip
        document["vulnerabilities"][0]["affects"][0]["versions"] = versions
        assert excused(document) is expected


@pytest.mark.parametrize(
    "data",
    [
        b"{}", b"[]", b"junk", b'{"@context": "https://example.invalid/ns"}', b'{"bomFormat": "SPDX"}',
        json.dumps({**openvex(), "statements": "none"}).encode(), json.dumps(openvex(status="harmless")).encode(),
        json.dumps(openvex(justification="because")).encode(), json.dumps({**cyclonedx(), "vulnerabilities": [{}]}).encode(),
        b'{"@context": "https://openvex.dev/ns/v0.2.0", "author": "a", "author": "b", "timestamp": "", "statements": []}',
    ],
)  # fmt: skip
def test_a_document_that_cannot_be_read_is_wrong_configuration(data: bytes) -> None:
    """Nobody has to guess what it meant."""
    with pytest.raises(UsageError):
        vex.parse(data, "policy/vex/x.json")


def test_documents_are_found_in_their_folder(tmp_path: Path) -> None:
    """`policy/vex/` may be missing, and may have folders."""
    assert vex.load_claims(tmp_path) == ()
    (tmp_path / "vex" / "forms").mkdir(parents=True)
    (tmp_path / "vex" / "forms" / "a.json").write_text(json.dumps(openvex()))
    (tmp_path / "vex" / "README.md").write_text("whose they are")
    assert [claim.file for claim in vex.load_claims(tmp_path)] == ["policy/vex/forms/a.json"]
