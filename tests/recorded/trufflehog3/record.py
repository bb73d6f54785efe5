"""Record what the secret scan leaves for a folder with two made-up secrets in it.

    PYTHONPATH=scripts python tests/recorded/trufflehog3/record.py

The secrets are random and thrown away: the recording holds their fingerprints.
"""

import secrets as randomness
import shutil
import string
import tempfile
from datetime import date
from pathlib import Path

from sealrun import pipeline
from sealrun.policy.load import load_plan
from sealrun.stage import Context
from sealrun.stages import secrets

ROOT = Path(__file__).resolve().parents[3]


def made_up(alphabet: str, length: int) -> str:
    return "".join(randomness.choice(alphabet) for _ in range(length))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, password = Path(name, "folder"), made_up(string.ascii_lowercase, 12)
        folder.mkdir()
        key = "AKIA" + made_up(string.ascii_uppercase + string.digits, 16)
        address = f"{password}@db.example.invalid/x"
        (folder / "settings.py").write_text(f"KEY = '{key}'\nURL = 'postgres://admin:" + address + "'\n")
        (folder / "README.md").write_text("nothing in it\n")
        plan = load_plan(ROOT, None, date(2026, 1, 1))
        targets = (folder / "README.md", folder / "settings.py")
        context = Context(plan=plan, root=ROOT, out=Path(name, "out"), targets=targets)
        pipeline.execute(secrets.STAGE, context)
        shutil.copy(context.evidence("secrets") / "scan.json", Path(__file__).parent)


if __name__ == "__main__":
    main()
