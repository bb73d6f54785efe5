"""Imports point down: the architecture, held by reading the code."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "scripts" / "sealrun"
# From the top down. A module may import its own layer's packages only where that is said below.
LAYERS = (
    {"__main__", "program"},
    {"commands"},
    {"ci", "sessions", "rebuild", "release", "reproduce", "doctor", "scaffold"},
    {"console", "result"},
    {"pipeline"},
    {"reuse"},
    {"stages"},
    {"explanation"},
    {"engines"},
    {"scoring"},
    {
        "advisories",
        "cache",
        "command",
        "exceptions",
        "fetch",
        "known_secrets",
        "locks",
        "pin",
        "promotion",
        "reaudit",
        "secret_scan",
        "stage",
        "staged",
        "store",
    },
    {"reports"},
    {"policy", "evidence"},
    {"places", "venvs", "sandbox"},
    {"clock", "digest", "errors", "files", "masking", "network", "outcome", "settings"},
)
WITHIN = {"known_secrets", "secret_scan", "staged",
          "advisories", "engines", "promotion", "store", "sessions", "rebuild", "release", "reproduce", "doctor", "scaffold", "console", "result",
          "reports", "policy", "evidence", "venvs", "sandbox", "clock", "digest", "errors", "files", "masking", "network", "outcome", "settings", "__main__", "program"}  # fmt: skip


def modules() -> list[Path]:
    """Every module of the package but its root."""
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    """The layer's name for a module: its folder, or itself."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(path: Path) -> set[str]:
    """The rooms of our package that *path* imports, and foreign top-level modules prefixed by `!`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            found.add(parts[1] if parts[0] == "sealrun" and len(parts) > 1 else f"!{parts[0]}")
    return found


def level(name: str) -> int:
    """How far down a room lies."""
    return next(index for index, layer in enumerate(LAYERS) if name in layer)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_down(path: Path) -> None:
    """No module imports from a layer above its own; stages never import each other; inside/ imports nothing of ours."""
    here = room(path)
    ours = {name for name in imported(path) if not name.startswith("!") and name != "__version__"}
    if here == "inside":
        assert ours <= {"inside"}
        return
    assert "inside" not in ours
    for other in ours:
        assert level(other) >= level(here), f"{here} imports {other}, which lies above it"
        if other == here:
            assert here in WITHIN, f"{here} modules may not import each other"
    if here == "policy":
        assert "evidence" not in ours
    if here == "evidence":
        assert "policy" not in ours


@pytest.mark.parametrize(
    ("foreign", "allowed"),
    [("nox", {"sessions"}), ("subprocess", set()), ("invoke", {"program"}), ("rich", {"console", "release"})],
)
def test_one_place_for_each(foreign: str, allowed: set[str]) -> None:
    """nox, invoke, rich and process starting each have their one place."""
    users = {room(path) for path in modules() if f"!{foreign}" in imported(path) and room(path) != "inside"}
    assert users <= allowed


@pytest.mark.parametrize("call", ["os.environ", "os.getenv"])
def test_only_settings_reads_the_environment(call: str) -> None:
    """`os.environ` stands in one module."""
    users = {room(path) for path in modules() if call in path.read_text("utf-8") and room(path) != "inside"}
    assert users <= {"settings"}


def test_the_lists_stay_short() -> None:
    """The sessions and tasks read like tables of contents."""
    root = PACKAGE.parents[1]
    assert len((root / "noxfile.py").read_text("utf-8").splitlines()) < 150
    assert len((root / "tasks.py").read_text("utf-8").splitlines()) < 200
