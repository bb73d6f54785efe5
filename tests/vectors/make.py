"""Write the kept bundles of the present version: `python -m tests.vectors.make`, from the top of the checkout.

Every case of `tests.hostile` as it lies in a folder: `vN.tar.xz` holds them, `vN.json` the exit code that a verifier must answer
with for each. They are written once per version of the format and then never again: what once verified does so for ever, and
what was once refused stays so. Other people's verifiers can be held to them: the key is in `vN.json`.
"""

import io
import json
import lzma
import tarfile
import tempfile
from pathlib import Path

from tests.bundles import public_key
from tests.hostile import cases

HERE = Path(__file__).resolve().parent
VERSION = "v2"


def main() -> None:
    """Write every case, and what to expect of it."""
    content, expected = io.BytesIO(), {}
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number, (about, code, make) in enumerate(cases()):
            name = f"{number:03d}"
            expected[name] = {"about": about, "exit_code": code}
            with tempfile.TemporaryDirectory() as folder:
                bundle = make(Path(folder))
                for path in (*sorted(bundle.parent.glob("tiny-1.0.0.*")), bundle.parent / "report.html"):
                    if path.is_file():
                        _add(archive, f"{name}/{path.name}", path.read_bytes())
    value = {"fingerprint": public_key().fingerprint, "bundle": "tiny-1.0.0.evidence.tar", "cases": expected}
    (HERE / f"{VERSION}.json").write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (HERE / f"{VERSION}.tar.xz").write_bytes(lzma.compress(content.getvalue(), preset=9))


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), 315_532_800
    archive.addfile(info, io.BytesIO(data))


if __name__ == "__main__":
    main()
