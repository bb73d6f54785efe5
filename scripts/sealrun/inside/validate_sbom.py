"""Hold SBOMs against the strict CycloneDX 1.6 schema. Runs inside the `sbom` environment, never in Sealrun's own.

    python validate_sbom.py REPORT.json SBOM.json...

The report gives each file's first violation, by file name, or null. The grammar behind the schema's IRI format takes longer to
import than ten documents take to validate, so it is left out: Sealrun's SBOMs hold no IRI.
"""

import json
import sys
from pathlib import Path

sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

from cyclonedx.schema import SchemaVersion  # noqa: E402
from cyclonedx.validation.json import JsonStrictValidator  # noqa: E402


def main(report: str, documents: list[str]) -> None:
    """Validate *documents* and write the report."""
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    violations = {Path(document).name: validator.validate_str(Path(document).read_text("utf-8")) for document in documents}
    said = {name: None if found is None else str(found.data)[:500] for name, found in violations.items()}
    Path(report).write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
