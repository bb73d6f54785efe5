"""The sessions. Each is a line; what they do is in scripts/sealrun/stages/.

nox -s audit              one stage
nox -t release -j auto    all of them, side by side where they do not wait for each other
nox -t supply-chain       lock, sbom, audit and secrets
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "scripts"))

import bootstrap

bootstrap.hand_over("nox")

import nox

from sealrun import sessions

nox.options.tags = ["supply-chain"]

lock = sessions.stage("lock", "supply-chain")
sbom = sessions.stage("sbom", "supply-chain")
audit = sessions.stage("audit", "supply-chain")
secrets = sessions.stage("secrets", "supply-chain")
model = sessions.stage("model")
certify = sessions.stage("certify")
verify = sessions.stage("verify")
bundle = sessions.stage("bundle")

advisories = sessions.command("advisories", "Import an advisory snapshot: nox -s advisories -- --from FILE_OR_URL")
policy = sessions.command("policy", "Fetch what policy/repository.toml names of an organisation's", run="policy.fetch")
bench = sessions.script("bench", "Measure Sealrun beside plain tools, and how it grows; writes docs/bench.md", "docs/bench.py")
lint = sessions.development("lint", "Check style and types of Sealrun itself (ruff, mypy)")
test = sessions.development("test", "Run Sealrun's own tests (pytest)")
