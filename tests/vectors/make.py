"""Write the kept bundles of the present version: `python -m tests.vectors.make`, from the top of the checkout.

They are written once per version of the format and then never again: what once verified does so for ever.
"""

import json
from pathlib import Path

from sealrun.outcome import OutcomeKind
from tests.bundles import Draft, public_key

HERE = Path(__file__).resolve().parent
VERSION = "v1"


def main() -> None:
    """Write one bundle that passed and one that failed, and what to expect of them."""
    drafts = {"passed": (Draft(), 0), "failed": (Draft(kinds={"audit.clean": OutcomeKind.FAILED}), 1)}
    kept = {}
    for name, (draft, code) in drafts.items():
        path = draft.write(HERE / VERSION / name)
        kept[path.relative_to(HERE).as_posix()] = {"exit_code": code, "fingerprint": public_key().fingerprint}
    (HERE / "kept.json").write_text(json.dumps(kept, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
