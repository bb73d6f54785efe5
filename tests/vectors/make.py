"""Write the kept bundles of the present version: `python -m tests.vectors.make`, from the top of the checkout.

Every case of `tests.hostile` as it lies in a folder: `vN.tar.xz` holds them, `vN.json` the exit code that a verifier must answer
with for each. A case is written once and then never again, new ones are added behind: what once verified does so for ever, and what
was once refused stays so. Other people's verifiers can be held to them: the key is in `vN.json`.
"""

import io
import json
import lzma
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.bundles import public_key
from tests.hostile import cases

HERE = Path(__file__).resolve().parent
VERSION = "v2"


def main() -> None:
    """Write what is kept already, as it is, and behind it every case that is not, with what to expect of it."""
    content, expected = io.BytesIO(), kept()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files_kept():
            _add(archive, name, data)
        known = {case["about"] for case in expected.values()}
        for about, code, make in cases():
            if about in known:
                continue
            name = f"{len(expected):03d}"
            expected[name] = {"about": about, "exit_code": code}
            with tempfile.TemporaryDirectory() as folder:
                bundle = make(Path(folder))
                for path in (*sorted(bundle.parent.glob("tiny-1.0.0.*")), bundle.parent / "report.html"):
                    if path.is_file():
                        _add(archive, f"{name}/{path.name}", path.read_bytes())
    value = {"fingerprint": public_key().fingerprint, "bundle": "tiny-1.0.0.evidence.tar", "cases": expected}
    (HERE / f"{VERSION}.json").write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (HERE / f"{VERSION}.tar.xz").write_bytes(lzma.compress(content.getvalue(), preset=9))


def kept() -> dict[str, dict[str, Any]]:
    """The cases that are kept already, by the name of their folder."""
    path = HERE / f"{VERSION}.json"
    found: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))["cases"] if path.exists() else {}
    return found


def files_kept() -> list[tuple[str, bytes]]:
    """Their files."""
    path = HERE / f"{VERSION}.tar.xz"
    if not path.exists():
        return []
    with tarfile.open(path) as archive:
        return [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), 315_532_800
    archive.addfile(info, io.BytesIO(data))


if __name__ == "__main__":
    main()
