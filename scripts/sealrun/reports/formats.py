"""What the model gate saw in a release's folders: which files stand there, and what each of them is.

Rules: names are `ROLE/PATH`, the role being `baseline`, `candidate` or `data` (or the folder's own name where folders were
named on the command line); the bytes behind every verdict are named by their sha256, so that a verdict about one file
cannot be held against another.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from sealrun import digest

LISTING = "listing.json"
VERDICTS = "formats.json"
OFFLINE_SWITCHES = ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class Listing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every file found, by name; which of them no pin names, which pins have no file, and what was not read, and why."""

    format: Literal["sealrun/model-listing-v1"] = "sealrun/model-listing-v1"
    files: digest.Manifest
    unlisted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    refused: dict[str, str] = {}

    def digests(self) -> dict[str, digest.Sha256]:
        """Return name to sha256."""
        return {entry.path: entry.sha256 for entry in self.files}


class FormatVerdict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file: its format by content, what is wrong with it, what in it is or asks for code, and what it describes
    (ONNX: opset, domains; safetensors: dtypes; both: parameters)."""

    path: str
    sha256: digest.Sha256
    format: Annotated[str, Meta(min_length=1)]
    problems: tuple[str, ...]
    code: tuple[str, ...]
    details: dict[str, str | int | tuple[str, ...]]


class Probe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a program in the sandbox saw: the offline switches of its environment, and whether a connection was refused."""

    environment: dict[str, str]
    network: Literal["denied", "opened"]


class FormatReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`formats.json`, written by `inside/scan_model.py`."""

    format: Literal["sealrun/formats-v1"]
    files: tuple[FormatVerdict, ...]
    probe: Probe
