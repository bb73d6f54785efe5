#!/bin/sh
# Write one CycloneDX 1.6 SBOM over every locked environment.
#   scripts/generate_sbom.sh [OUT]      OUT defaults to artifacts/supply-chain/sbom.json in the repository
# Exit codes are those of `python -m sealrun`: 0 written, 1 a gate said no, 3 something is not installed yet, 4 a tool failed.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python=$root/.venv/bin/python
if [ ! -x "$python" ]; then
    echo "generate_sbom: no $python; run \`INVARLOCK_ALLOW_NETWORK=1 python3 scripts/bootstrap.py\` first" >&2
    exit 3
fi
if [ $# -eq 0 ]; then
    mkdir -p "$root/artifacts/supply-chain"
    set -- "$root/artifacts/supply-chain/sbom.json"
fi
exec "$python" -m sealrun sbom --root "$root" "$@"
