"""What README, docs and policy/README.md say is so: links, controls, keys, options, variables, commands."""

import ast
import hashlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from sealrun import commands as our_commands
from sealrun import promotion
from sealrun.policy import model
from tests.e2e.test_docs import NOT_RUN, RUN

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ROOT / "policy" / "README.md"
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), CATALOGUE, ROOT / "requirements" / "README.md",
     ROOT / "examples" / "tiny-lm" / "README.md"]
)  # fmt: skip
# Options of other people's programs that our pages name.
FOREIGN = {
    "--no-dependencies", "--install-only", "--no-install", "--require-hashes", "--only-binary", "--no-deps", "--override", "--list",
    "--quiet",  # git
    "--host", "--port", "--nworkers", "--nthreads", "--local-directory", "--scheduler-file",  # Dask's
    "--ntasks", "--cpus-per-task", "--mem-per-cpu", "--time",  # Slurm's
    "--signature", "--public",  # model_signing's; the second is cut at its underscore
}  # fmt: skip


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def checklist() -> list[dict[str, Any]]:
    """The controls of policy/checklist.toml, in order."""
    controls: list[dict[str, Any]] = tomllib.loads((ROOT / "policy" / "checklist.toml").read_text("utf-8"))["control"]
    return controls


def rows(page: Path, heading: str = "") -> Iterator[list[str]]:
    """The cells of every table row of *page*, or of its section *heading*, without the rulers."""
    text = page.read_text("utf-8")
    if heading:
        text = next(part for part in re.split(r"^## ", text, flags=re.MULTILINE) if part.startswith(heading))
    for line in text.splitlines():
        if line.startswith("|") and not set(line) <= set("|-: "):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def commands(page: Path) -> Iterator[str]:
    """The commands of the `sh` blocks of *page*."""
    for block in re.findall(r"^```(?:sh|console)\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        yield from (line for line in block.splitlines() if line)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file of this repository."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_the_catalogue_has_every_control_once() -> None:
    """policy/README.md describes the controls of checklist.toml, with the stage that judges them and the deployment mark."""
    described = sorted(
        (cells[0].strip("`"), cells[1], cells[2].endswith("(deployment)"))
        for cells in rows(CATALOGUE, "Controls")
        if cells[0] != "control"
    )
    assert described == sorted((line["id"], line["stage"], line.get("deployment", False)) for line in checklist())


def keys_of(kind: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize(
    ("heading", "prefix", "kind"),
    [
        ("gates.toml", "profile.NAME.", model.Profile),
        ("gates.toml", "certify.", model.CertifyGate),
        ("gates.toml", "audit.", model.AuditGate),
        ("gates.toml", "model.", model.ModelGate),
        ("gates.toml", "secrets.", model.SecretsGate),
        ("retention.toml", "retention.NAME.", model.RetentionClass),
        ("promotion.toml", "stage.NAME.", promotion.Rules),
        ("waivers.toml", "", model.Waiver),
        ("gates.toml", "waivers.", model.WaiverGate),
        ("gates.toml", "vex.", model.VexGate),
        ("checklist.toml", "", model.Control),
    ],
)
def test_the_catalogue_has_every_key(heading: str, prefix: str, kind: type[msgspec.Struct]) -> None:
    """Each table of keys names exactly the fields of the value that is read."""
    cells = [cells[0] for cells in rows(CATALOGUE, heading) if cells[0].startswith(f"`{prefix}")]
    named = {name for cell in cells for name in re.findall(rf"`(?:{re.escape(prefix)})?(\w+)`", cell)}
    assert named == keys_of(kind)


def test_the_catalogue_names_every_status() -> None:
    """The statuses of a waiver are all named."""
    kinds = get_args(next(f.type for f in msgspec.structs.fields(model.Waiver) if f.name == "status"))
    assert all(f"`{kind}`" in CATALOGUE.read_text("utf-8") for kind in kinds if kind)


def test_every_control_has_evidence_and_a_mutation() -> None:
    """docs/checklist.md names for each control its evidence and at least one test, which exists, that makes it fail."""
    lines = {cells[0].strip("`"): cells for cells in rows(ROOT / "docs" / "checklist.md") if "." in cells[0]}
    assert list(lines) == [control["id"] for control in checklist()]
    for control, (_, evidence, mutation, tests) in lines.items():
        assert evidence, control
        assert mutation, control
        found = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        assert found, control
        for path, test in found:
            assert f"def {test}(" in (ROOT / path).read_text("utf-8"), f"{control}: {path}::{test}"


def known_options() -> set[str]:
    """Every option of our own commands."""
    found: set[str] = set()
    for name in our_commands.names():
        command = our_commands.find(name)
        assert command
        found |= {option for action in command.parser()._actions for option in action.option_strings}
    for node in ast.parse((ROOT / "tasks.py").read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            found |= {f"--{argument.arg}" for argument in node.args.args[1:]}
    verifier = (ROOT / "scripts" / "verify_bundle.py").read_text("utf-8")
    return found | set(re.findall(r"\"(--[a-z-]+)\"", verifier))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_exist(page: Path) -> None:
    """Every option that a page names is one of our commands', or known to be somebody else's."""
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", page.read_text("utf-8")))
    assert named <= known_options() | FOREIGN


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_variables_exist(page: Path) -> None:
    """Every SEALRUN_ variable that a page names is read somewhere."""
    read = [*(ROOT / "scripts").rglob("*.py"), ROOT / "ci" / "sealrun.gitlab-ci.yml"]
    code = "".join(path.read_text("utf-8") for path in read)
    assert all(name in code for name in re.findall(r"SEALRUN_\w+", page.read_text("utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_sessions_and_tasks_exist(page: Path) -> None:
    """Every `nox -s NAME` and `invoke NAME` is in the noxfile or in tasks.py."""
    text = page.read_text("utf-8")
    sessions = set(re.findall(r"^(\w+) = sessions\.", (ROOT / "noxfile.py").read_text("utf-8"), re.MULTILINE))
    tree = ast.parse((ROOT / "tasks.py").read_text("utf-8")).body
    tasks = {node.name for node in tree if isinstance(node, ast.FunctionDef) and node.decorator_list}
    tasks |= set(re.findall(r"^ +task_of\(\"([\w.]+)\"", (ROOT / "tasks.py").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"nox -s ([a-z]+)", text)) <= sessions
    named = set(re.findall(r"(?:invoke|bootstrap\.py) ([a-z]+(?:\.[a-z]+)?)\b", text))
    assert named - {"from", "itself", "and"} <= tasks


def test_every_command_is_run_or_said_not_to_be() -> None:
    """Each command of a `sh` block is run by tests/e2e/test_docs.py or listed there with a reason; nothing else is listed."""
    written = {command for page in PAGES for command in commands(page)}
    listed = {run.command for run in RUN} | NOT_RUN.keys()
    assert written == listed


def test_the_first_screen_is_short() -> None:
    """README has fewer than 200 lines, and its two blocks come within the first 30."""
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) < 200
    assert sum(line.startswith("```sh") for line in lines[:30]) == 2


def test_decisions_are_listed() -> None:
    """docs/adr/README.md lists each decision, in order, under its own title."""
    listed = re.findall(r"^\d+\. \[(.+)\]\((.+)\)$", (ROOT / "docs" / "adr" / "README.md").read_text("utf-8"), re.MULTILINE)
    pages = sorted((ROOT / "docs" / "adr").glob("0*.md"))
    assert [name for _, name in listed] == [page.name for page in pages]
    for number, ((title, _), page) in enumerate(zip(listed, pages, strict=True), 1):
        assert page.read_text("utf-8").startswith(f"# {number}. {title}\n")


def test_the_licence_is_apache_2() -> None:
    """LICENSE is the text of the Apache License 2.0, byte for byte."""
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest().startswith("cfc7749b96f63bd3")
