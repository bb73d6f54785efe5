"""CycloneDX: what cyclonedx-py wrote, joined with the lock into one document that anyone can rebuild.

Rules: a component is known by its canonical package URL; its hashes are all that the lock accepts for it; licences and edges
come from the installed environment where there is one; no time, path, URL or line number stands in a document, and its serial
number comes from its content.

Source: CycloneDX 1.6; package URL type pypi.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field
from packaging.utils import canonicalize_name

from sealrun import __version__, digest, files
from sealrun.errors import ToolFailed
from sealrun.reports.lockfiles import Lock
from sealrun.reports.pins import Pin

_ALGORITHMS = {"sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}
_LICENCE_FIELDS = ("id", "name", "acknowledgement")


class _Component(Struct, frozen=True):
    ref: str = field(name="bom-ref")
    name: str
    version: str
    licenses: tuple[dict[str, Any], ...] = ()


class _Dependency(Struct, frozen=True):
    ref: str
    targets: tuple[str, ...] = field(name="dependsOn", default=())


class Written(Struct, frozen=True):
    """What is read of cyclonedx-py's document."""

    components: tuple[_Component, ...] = ()
    dependencies: tuple[_Dependency, ...] = ()


class Hash(Struct, frozen=True, kw_only=True):
    """A digest of one distribution file of a component."""

    alg: str
    content: str


class Component(Struct, frozen=True, kw_only=True):
    """A component of one of our own documents, as the judge reads it again."""

    name: str
    version: str
    purl: str
    hashes: tuple[Hash, ...] = ()


class Document(Struct, frozen=True, kw_only=True):
    """One of our own documents, as the judge reads it again."""

    spec_version: str = field(name="specVersion")
    serial: str = field(name="serialNumber")
    components: tuple[Component, ...]


def parse_written(data: bytes, where: str) -> Written:
    """Return what cyclonedx-py wrote. Raises ToolFailed."""
    value = files.parse_json(data, where, ToolFailed)
    if not isinstance(value, dict) or value.get("bomFormat") != "CycloneDX":
        raise ToolFailed(f"{where}: no CycloneDX document; read cyclonedx-py's log")
    return files.convert(value, Written, where, ToolFailed)


def join(written: Written, lock: Lock, *, installed: bool, tool: str) -> dict[str, Any]:
    """Return the document on *lock*: what was *written* of its environment (or of the lock itself) with the lock's hashes.

    `tool` is the version of cyclonedx-bom. A pin whose marker is false here is no component.
    """
    pins = {(pin.name, pin.version): pin for pin in lock.pins if pin.applies}
    elsewhere = {pin.name for pin in lock.pins} - {name for name, _ in pins}
    kept = [each for each in written.components if installed or canonicalize_name(each.name) not in elsewhere]
    refs = {each.ref: _purl(each) for each in kept}
    components = [_component(each, pins.get((canonicalize_name(each.name), each.version))) for each in kept]
    root = f"environment:{lock.environment}"
    properties = {
        "sealrun:environment": lock.environment,
        "sealrun:lock": f"sha256:{lock.sha256}",
        "sealrun:mode": "environment" if installed else "requirements",
        "sealrun:pins-for-other-platforms": str(len(elsewhere)),
    }
    edges = {
        refs[d.ref]: {refs[to] for to in d.targets if to in refs} - {refs[d.ref]} for d in written.dependencies if d.ref in refs
    }
    return _document({"bom-ref": root, "name": lock.environment}, components, edges, properties, tool)


def combine(documents: Sequence[Mapping[str, Any]], *, tool: str) -> dict[str, Any]:
    """Return one document over the components of all *documents* of `join`, each with the environments that it is in."""
    merged: dict[str, dict[str, Any]] = {}
    homes: dict[str, list[str]] = {}
    edges: dict[str, set[str]] = {}
    for document in documents:
        root = document["metadata"]["component"]
        for component in document["components"]:
            homes.setdefault(component["purl"], []).append(root["name"])
            merged[component["purl"]] = _richer(merged.get(component["purl"], {}), component)
        for dependency in document["dependencies"]:
            if dependency["ref"] != root["bom-ref"]:
                edges.setdefault(dependency["ref"], set()).update(dependency.get("dependsOn", ()))
    components = [
        {**component, "properties": _properties([("sealrun:environment", home) for home in sorted(homes[purl])])}
        for purl, component in merged.items()
    ]
    names = {"sealrun:environments": ", ".join(sorted({home for found in homes.values() for home in found}))}
    return _document({"bom-ref": "environments", "name": "environments"}, components, edges, names, tool)


def parse_document(data: bytes, where: str) -> Document:
    """Return one of our own documents. Raises ToolFailed."""
    return files.decode(data, Document, where, ToolFailed)


def _document(
    root: Mapping[str, str], components: Iterable[dict[str, Any]], edges: Mapping[str, set[str]],
    properties: Mapping[str, str], tool: str,
) -> dict[str, Any]:  # fmt: skip
    found = sorted(components, key=lambda component: str(component["bom-ref"]))
    refs = [component["bom-ref"] for component in found]
    reached = {to for targets in edges.values() for to in targets}
    tops = [ref for ref in refs if ref not in reached]
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [_tool("cyclonedx-bom", tool), _tool("sealrun", __version__)]},
            "component": {"type": "application", **root},
            "properties": _properties(sorted(properties.items())),
        },
        "components": found,
        "dependencies": [_edge(root["bom-ref"], tops), *(_edge(ref, sorted(edges.get(ref, ()))) for ref in refs)],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:sealrun:sbom:{digest.of_json(content)}")
    return {**content, "serialNumber": serial.urn}


def _component(written: _Component, pin: Pin | None) -> dict[str, Any]:
    hashes = [
        {"alg": _ALGORITHMS[algorithm], "content": content}
        for algorithm, _, content in (value.partition(":") for value in (pin.hashes if pin else ()))
        if algorithm in _ALGORITHMS
    ]
    licences = _licences(written.licenses)
    return {
        "type": "library",
        "bom-ref": _purl(written),
        "name": canonicalize_name(written.name),
        "version": written.version,
        "purl": _purl(written),
        **({"hashes": hashes} if hashes else {}),
        **({"licenses": licences} if licences else {}),
    }


def _licences(written: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the licences without texts and links; CycloneDX allows one expression, or licences, never both."""
    expressions = [{"expression": each["expression"]} for each in written if "expression" in each]
    if expressions:
        return expressions[:1]
    named = [{name: each["license"][name] for name in _LICENCE_FIELDS if name in each["license"]} for each in written]
    return [{"license": licence} for licence in sorted(named, key=str)]


def _purl(component: _Component) -> str:
    return Pin(name=canonicalize_name(component.name), version=component.version, line=0).purl


def _richer(known: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return one component of two mentions: the licences of either, the hashes of both."""
    both = {**seen, **known}
    hashes = {digest.canonical_json(each): each for each in (*known.get("hashes", ()), *seen.get("hashes", ()))}
    return {**both, **({"hashes": [hashes[key] for key in sorted(hashes)]} if hashes else {})}


def _edge(ref: str, targets: Sequence[str]) -> dict[str, Any]:
    return {"ref": ref, **({"dependsOn": list(targets)} if targets else {})}


def _tool(name: str, version: str) -> dict[str, str]:
    return {"type": "application", "name": name, "version": version}


def _properties(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]
