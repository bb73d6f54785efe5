"""The tasks. Each turns its options into one `python -m sealrun` command; the work is in scripts/sealrun/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "scripts"))

import bootstrap

if getattr(sys.modules["__main__"].__spec__, "name", None) != "sealrun.program":
    bootstrap.main(sys.argv[1:])  # any other invoke hands over to .venv's, whose exit codes are the documented ones

from invoke import Collection, Context, task

ROOT = Path(__file__).resolve().parent


def _run(*arguments: str, **options: object) -> None:
    """Run a command; options become --NAME VALUE, None and False are left out, True is the bare flag."""
    from sealrun.__main__ import main

    argv = list(arguments)
    for name, value in options.items():
        if value is True:
            argv.append(f"--{name}")
        elif value not in (None, False):
            argv.append(f"--{name}={value}")
    sys.exit(main([*argv, f"--root={ROOT}"]))


@task(
    optional=["json"],
    help={
        "config": "release file (default: ./release.toml, else the shipped example)",
        "out": "output folder (default: build)",
        "jobs": "stages side by side: a number or auto",
        "json": "write the result as JSON to FILE, or to standard output",
        "fresh": "ignore earlier tool output",
    },
)
def release(context: Context, config: str | None = None, out: str | None = None, jobs: str = "auto", json: str | None = None,
            fresh: bool = False) -> None:  # fmt: skip
    """Run every stage and make the signed evidence bundle."""
    _run("release", config=config, out=out, jobs=jobs, json=json, fresh=fresh)


@task(
    positional=["bundle"],
    optional=["json"],
    help={
        "bundle": "the NAME.evidence.tar; its NAME.intoto.jsonl and report.html lie beside it",
        "trust": "public key file or folder of them (default: policy/trust)",
        "fingerprint": "the release key's fingerprint, sha256:...",
        "files": "folder with the delivered model, to be bound byte for byte",
        "json": "write the result as JSON to FILE, or to standard output",
    },
)
def verify(context: Context, bundle: str, trust: str | None = None, fingerprint: str | None = None,
           files: str | None = None, json: str | None = None) -> None:  # fmt: skip
    """Check an evidence bundle: signature, every byte, every verdict."""
    _run("verify", bundle, trust=trust, fingerprint=fingerprint, files=files, json=json)


@task(
    help={
        "baseline": "folder of the model before the change",
        "candidate": "folder of the model to be released",
        "data": "evaluation text, JSONL",
        "name": "name of the release",
        "out": "where to write (default: release.toml in the folder common to the three)",
    }
)
def init(context: Context, baseline: str | None = None, candidate: str | None = None, data: str | None = None,
         name: str | None = None, out: str | None = None) -> None:  # fmt: skip
    """Write a release.toml for your own model; asks for what is not given."""
    _run("init", baseline=baseline, candidate=candidate, data=data, name=name, out=out)


@task(
    help={
        "role": "baseline, candidate or data (default: all that release.toml gives a repository)",
        "repository": "OWNER/NAME, one that policy trusts",
        "revision": "the full 40-hex revision",
        "files": "the files to fetch, separated by commas",
        "config": "release file (default: ./release.toml, else the shipped example)",
    }
)
def fetch(context: Context, role: str | None = None, repository: str | None = None, revision: str | None = None,
          files: str | None = None, config: str | None = None) -> None:  # fmt: skip
    """Fetch models and data from a hub into the cache beside release.toml, and pin them; opens the network."""
    _run("fetch", role=role, repository=repository, revision=revision, files=files, config=config)


@task(optional=["json"], help={"json": "write the result as JSON to FILE, or to standard output"})
def doctor(context: Context, json: str | None = None) -> None:
    """Say what this machine offers, what production would miss, and what to do."""
    _run("doctor", json=json)


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


def _pin(context: Context, config: str | None = None, check: bool = False) -> None:
    """Show how the pins of release.toml differ from the files, and write them (--check: show only)."""
    _run("pin", config=config, check=check)


ns = Collection.from_module(sys.modules[__name__])
ns.add_collection(Collection("policy", pin=task(_pin)))
