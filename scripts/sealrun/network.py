"""The network: the only place that says whether it may be opened, and that notes what it was opened for.

Rules: it is off unless INVARLOCK_ALLOW_NETWORK says otherwise for this one command; what is opened is noted first, with the
command, in `build/network.jsonl`, and stays shut when that cannot be written. What a stage runs never gets it: that is the
sandbox's to see to, and the statement's to say.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from sealrun import clock, files, masking, settings
from sealrun.errors import UsageError

RECORD = Path("build") / "network.jsonl"

_command: list[tuple[Path, str]] = []  # the record of this process's command, and its words; none in a library's use


def is_command(root: Path, words: Sequence[str]) -> None:
    """Say which command this process runs, and for which checkout or repository *root*."""
    _command[:] = [(root.absolute(), " ".join(words))]


def opened_since(root: Path, when: str) -> list[dict[str, str]]:
    """Return what is noted below *root* from the time *when* on, ISO 8601 in UTC."""
    path = root / RECORD
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    return [note for line in lines if (note := _read(line)) and note["at"] >= when]


def _read(line: str) -> dict[str, str] | None:
    try:
        note = files.decode(line.encode(), dict[str, str], RECORD.name)
    except UsageError:  # cut short, or somebody else's
        return None
    return note if "at" in note else None


def may_open(purpose: str) -> bool:
    """Return whether the network may be opened for *purpose*, which is noted where it may.

    Raises UsageError for a switch that says neither on nor off, and OSError when the note cannot be written.
    """
    allowed = settings.network_allowed()
    for root, words in _command if allowed else ():
        folder = files.output_folder(root / RECORD.parent)
        folder.mkdir(exist_ok=True)
        note = {"at": clock.now().isoformat(timespec="seconds"), "command": words, "opened_for": purpose}
        files.append_line(folder / RECORD.name, masking.mask_text(json.dumps(note, sort_keys=True)))
    return allowed
