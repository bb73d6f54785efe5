"""cyclonedx-py's documents joined with a lock."""

import json
from pathlib import Path
from typing import Any

import pytest

from sealrun.errors import ToolFailed
from sealrun.reports import cyclonedx
from sealrun.reports.lockfiles import Lock
from sealrun.reports.requirements import parse_lock

RECORDED = Path(__file__).resolve().parents[1] / "recorded" / "cyclonedx"
LOCK = (RECORDED / "lock.txt").read_text("utf-8")
A, B = "a" * 64, "b" * 64


def lock(text: str = LOCK, environment: str = "model") -> Lock:
    return Lock(environment=environment, path=f"requirements/{environment}.txt", sha256="0" * 64, pins=parse_lock(text, "lock"))


def written(name: str) -> cyclonedx.Written:
    return cyclonedx.parse_written((RECORDED / f"{name}.json").read_bytes(), name)


def joined(name: str, text: str = LOCK) -> dict[str, Any]:
    return cyclonedx.join(written(name), lock(text), installed=name == "environment", tool="7.5.0")


def small(*components: dict[str, Any], **fields: Any) -> cyclonedx.Written:
    """What cyclonedx-py would have written of *components*."""
    document = {"bomFormat": "CycloneDX", "components": list(components), **fields}
    return cyclonedx.parse_written(json.dumps(document).encode(), "small")


def part(name: str, version: str, **fields: Any) -> dict[str, Any]:
    return {"bom-ref": f"{name}=={version}", "name": name, "version": version, **fields}


@pytest.mark.parametrize("mode", ["environment", "requirements"])
def test_components_are_the_pins_with_every_hash_of_the_lock(mode: str) -> None:
    """Read as installed or as written, a document names each pin once, with the lock's hashes."""
    document = joined(mode)
    expected = {pin.purl: sorted(value.partition(":")[2] for value in pin.hashes) for pin in lock().pins}
    assert {c["purl"]: sorted(h["content"] for h in c["hashes"]) for c in document["components"]} == expected
    assert [c["bom-ref"] for c in document["components"]] == sorted(expected)
    properties = {each["name"]: each["value"] for each in document["metadata"]["properties"]}
    assert properties["sealrun:mode"] == mode and properties["sealrun:lock"] == "sha256:" + "0" * 64


def test_an_environment_brings_licences_and_edges() -> None:
    """What only the installed environment knows is kept, by canonical reference."""
    document = joined("environment")
    licences = {c["name"]: c["licenses"] for c in document["components"] if "licenses" in c}
    assert licences["numpy"] and licences["onnx"]
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in document["dependencies"]}
    names = {ref.partition("@")[0].rpartition("/")[2]: [to.partition("@")[0].rpartition("/")[2] for to in targets]
             for ref, targets in edges.items()}  # fmt: skip
    assert "numpy" in names["onnx"] and "onnx" in names["environment:model"] and "numpy" not in names["environment:model"]
    assert all("licenses" not in component for component in joined("requirements")["components"])


@pytest.mark.parametrize("mode", ["environment", "requirements"])
def test_no_time_path_or_address_is_left(mode: str) -> None:
    """Only the schema's own name looks like an address; serial number and all else follow from the content."""
    text = json.dumps(joined(mode)).replace("http://cyclonedx.org/schema/bom-1.6.schema.json", "")
    assert "://" not in text and "timestamp" not in text and "requirements-L" not in text
    assert joined(mode) == joined(mode)
    changed = joined(mode, LOCK.replace("numpy==", "numpy==9."))
    assert changed["serialNumber"] != joined(mode)["serialNumber"]


def test_a_hash_belongs_to_the_version_that_is_pinned() -> None:
    """An installed version that the lock does not pin gets no hash of another one."""
    document = cyclonedx.join(small(part("a", "2")), lock(f"a==1 --hash=sha256:{A}\n"), installed=True, tool="1")
    assert "hashes" not in document["components"][0]


def test_a_pin_for_another_platform_is_counted_and_no_component() -> None:
    """What a false marker leaves out is said as a number."""
    text = f"a==1 --hash=sha256:{A}\nb==1 ; sys_platform == 'nowhere' --hash=sha256:{B}\n"
    document = cyclonedx.join(small(part("a", "1"), part("b", "1")), lock(text), installed=False, tool="1")
    assert [component["name"] for component in document["components"]] == ["a"]
    properties = {each["name"]: each["value"] for each in document["metadata"]["properties"]}
    assert properties["sealrun:pins-for-other-platforms"] == "1"
    installed = cyclonedx.join(small(part("a", "1"), part("b", "1")), lock(text), installed=True, tool="1")
    assert [component["name"] for component in installed["components"]] == ["a", "b"]


def test_names_are_canonical_and_self_edges_dropped() -> None:
    """`Flit_Core` and `flit-core` are one; a package that needs an extra of itself does not depend on itself."""
    source = small(part("Flit_Core", "1"), dependencies=[{"ref": "Flit_Core==1", "dependsOn": ["Flit_Core==1", "gone==1"]}])
    document = cyclonedx.join(source, lock(f"flit.core==1 --hash=sha256:{A}\n"), installed=True, tool="1")
    assert document["components"][0]["purl"] == "pkg:pypi/flit-core@1" and document["components"][0]["hashes"]
    assert document["dependencies"] == [
        {"ref": "environment:model", "dependsOn": ["pkg:pypi/flit-core@1"]}, {"ref": "pkg:pypi/flit-core@1"},
    ]  # fmt: skip


def test_licence_texts_and_links_are_left_out() -> None:
    """One expression, or named licences, without what could hold a path."""
    named = part("a", "1", licenses=[{"license": {"name": "X", "url": "file:///home/x", "text": {"content": "x"}}}])
    expressed = part("b", "1", licenses=[{"license": {"id": "MIT"}}, {"expression": "MIT OR X", "bom-ref": "q"}])
    document = cyclonedx.join(small(named, expressed), lock("a==1\nb==1\n"), installed=True, tool="1")
    assert [c["licenses"] for c in document["components"]] == [[{"license": {"name": "X"}}], [{"expression": "MIT OR X"}]]


def test_one_document_over_all_names_each_package_once_with_its_environments() -> None:
    """A package in two environments is one component with both names, the hashes of both and the licence of either."""
    one = cyclonedx.join(
        small(part("a", "1", licenses=[{"license": {"id": "MIT"}}])), lock(f"a==1 --hash=sha256:{A}\n", "one"),
        installed=True, tool="1",
    )  # fmt: skip
    text = f"a==1 --hash=sha256:{B}\nb==2 --hash=sha256:{B}\n"
    two = cyclonedx.join(small(part("a", "1"), part("b", "2")), lock(text, "two"), installed=False, tool="1")
    merged = cyclonedx.combine([one, two], tool="1")
    assert merged["components"][0] == {
        "type": "library", "bom-ref": "pkg:pypi/a@1", "name": "a", "version": "1", "purl": "pkg:pypi/a@1",
        "hashes": [{"alg": "SHA-256", "content": A}, {"alg": "SHA-256", "content": B}],
        "licenses": [{"license": {"id": "MIT"}}],
        "properties": [{"name": "sealrun:environment", "value": "one"}, {"name": "sealrun:environment", "value": "two"}],
    }  # fmt: skip
    assert [component["name"] for component in merged["components"]] == ["a", "b"]
    assert cyclonedx.combine([one, two], tool="1") == merged


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"junk", b'{"bomFormat": "CycloneDX", "components": [{}]}'])
def test_what_is_no_cyclonedx_is_an_error(data: bytes) -> None:
    """Garbage is a failed tool, not an empty environment."""
    with pytest.raises(ToolFailed):
        cyclonedx.parse_written(data, "junk")
