"""The tasks. Each is a line; its options and what it does are in scripts/sealrun/commands/.

invoke release                       everything, to a signed evidence bundle
invoke verify BUNDLE --trust KEY     for the person who receives one
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "scripts"))

import bootstrap

if getattr(sys.modules["__main__"].__spec__, "name", None) != "sealrun.program":
    bootstrap.main(sys.argv[1:])  # any other invoke hands over to .venv's, whose exit codes are the documented ones

from invoke import Collection, Context, task

from sealrun.program import ROOT, task_of


@task(help={"only": "pytest arguments, such as a path or -k EXPRESSION"})
def test(context: Context, only: str = "") -> None:
    """Run Sealrun's own tests."""
    _nox(context, "test", only)


@task
def lint(context: Context) -> None:
    """Check style and types of Sealrun itself."""
    _nox(context, "lint")


def _nox(context: Context, session: str, arguments: str = "") -> None:
    with context.cd(str(ROOT)):
        done = context.run(f"'{sys.executable}' -m nox -s {session} -- {arguments}", warn=True, in_stream=False)
    sys.exit(0 if done and done.ok else 1)


ns = Collection(
    test,
    lint,
    task_of("disclose"),
    task_of("doctor"),
    task_of("explain"),
    task_of("fetch"),
    task_of("init"),
    task_of("promote"),
    task_of("reaudit"),
    task_of("release"),
    task_of("reproduce"),
    task_of("verify"),
    Collection(
        "keys",
        task_of("keys.cosign"),
        task_of("keys.revoke"),
        task_of("keys.rotate"),
        task_of("keys.show"),
        task_of("keys.use"),
    ),
    Collection(
        "ledger",
        task_of("ledger.verify"),
    ),
    Collection(
        "ci",
        task_of("ci.changes"),
        task_of("ci.fleet"),
        task_of("ci.join"),
        task_of("ci.kit"),
        task_of("ci.matrix"),
        task_of("ci.summary"),
    ),
    Collection(
        "secrets",
        task_of("secrets.import"),
        task_of("secrets.staged"),
    ),
    Collection(
        "policy",
        task_of("policy.allowlist"),
        task_of("policy.baseline"),
        task_of("policy.fetch"),
        task_of("policy.lapsing"),
        task_of("policy.pin"),
        task_of("policy.waive"),
    ),
    Collection(
        "store",
        task_of("store.add"),
        task_of("store.check"),
        task_of("store.hold"),
        task_of("store.list"),
        task_of("store.prune"),
        task_of("store.reaudit"),
        task_of("store.unhold"),
    ),
)
