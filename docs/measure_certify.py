"""Measure what certify and verify cost: seconds, and milliseconds for each case, as the number of cases grows.

    .venv/bin/python docs/measure_certify.py [CASES ...]        (default: 1000 10000)

Runs the two stages on the example's ONNX models, with its texts as often as it takes, in a folder of its own, and prints lines
of docs/figures.md. Needs the environments of model, certify and verify installed.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "tiny-lm"


def main(counts: list[int]) -> None:
    """Print a line for each number of cases."""
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="sealrun-measure-") as folder:
            certify, verify = measured(Path(folder), count)
        each = 1000 * (certify + verify) / count
        print(f"| certify and verify of the ONNX example, {count} cases | `docs/measure_certify.py` | "
              f"{certify:.1f} s and {verify:.1f} s, {each:.1f} ms a case | {time.strftime('%Y-%m-%d')} |")  # fmt: skip


def measured(home: Path, count: int) -> tuple[float, float]:
    """Return the seconds that certify and verify take for *count* cases."""
    for name in ("baseline", "candidate"):
        shutil.copytree(EXAMPLE / name, home / name)
    (home / "data").mkdir()
    texts = [json.loads(line)["text"] for line in (EXAMPLE / "data" / "eval.jsonl").read_text("utf-8").splitlines()]
    rows = [json.dumps({"id": f"case-{number}", "text": texts[number % len(texts)]}) for number in range(count)]
    (home / "data" / "eval.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    shutil.copy(EXAMPLE / "release.toml", home)
    run(home, "policy.pin", timed=False)
    run(home, "stage", "model", timed=False)
    return run(home, "stage", "certify"), run(home, "stage", "verify")


def run(home: Path, *command: str, timed: bool = True) -> float:
    """Run a command of Sealrun on the release in *home* and return its seconds. Ends the program when it fails."""
    environment = {**os.environ, "SEALRUN_KEYS": str(home / "keys")}
    where = ["--config", str(home / "release.toml"), *(["--out", str(home / "build")] if command[0] == "stage" else [])]
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "sealrun", *command, *where], cwd=ROOT, env=environment, check=False)
    if done.returncode and (timed or command[0] == "stage"):
        sys.exit(f"{' '.join(command)} ended with {done.returncode}")
    return time.perf_counter() - begun


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [1000, 10000])
