#!/bin/sh
# Scan what is staged in the repository that it is started in, by the rules of this checkout: the entry of .pre-commit-hooks.yaml.
# With INVARLOCK_ALLOW_NETWORK=1 it installs what is missing, once. Exit codes are those of `python -m sealrun`: 0 nothing found,
# 1 a secret, 3 something is not installed yet, 4 a tool failed.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python=$root/.venv/bin/python
set -- "$root"/.nox/venvs/secrets-*
if [ ! -x "$python" ] || [ ! -d "$1" ]; then
    if [ "${INVARLOCK_ALLOW_NETWORK:-}" != 1 ]; then
        echo "scan_staged: not installed yet; run \`INVARLOCK_ALLOW_NETWORK=1 $root/scripts/scan_staged.sh\` once" >&2
        exit 3
    fi
    [ -x "$python" ] || python3 "$root/scripts/bootstrap.py" --list >&2
    "$python" -P -m sealrun install secrets --root "$root" >&2
fi
exec "$python" -P -m sealrun secrets.staged --root "$root" --tree .
