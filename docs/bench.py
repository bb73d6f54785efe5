"""Measure Sealrun beside plain tools, and how its cost grows; write docs/bench.md with its plots.

    nox -s bench -- [--only NAME] [--quick] [--out FOLDER]

Ours and theirs are measured in one run, turn by turn, so that a busy machine is busy for both; what is promised is the ratio.
Absolute promises (a second, twelve seconds) mean a quiet machine with two cores. Ends with 1 when a promise is missed. Needs
the environments: `python3 scripts/bootstrap.py release` once. `--quick` takes one turn and smaller sizes.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent / "scripts")]

import bench_growth  # noqa: E402 - found beside this file
import bench_plot  # noqa: E402 - found beside this file
import bench_ratios  # noqa: E402 - found beside this file


@dataclass(frozen=True)
class Part:
    """A part of the suite: what it is called, and what measures it. `quick` is given to that."""

    name: str
    measure: Callable[[bool], Sequence[bench_ratios.Row]]


PARTS = (
    Part("unchanged", bench_ratios.unchanged),
    Part("warm", bench_ratios.warm),
    Part("cold", bench_ratios.cold),
    Part("hashing", bench_ratios.hashing),
    Part("bundling", bench_ratios.bundling),
    Part("verifying", bench_ratios.verifying),
    Part("secrets", bench_ratios.secrets),
    Part("sbom", bench_ratios.sbom),
    Part("audit", bench_ratios.audit),
    Part("growth", bench_growth.measure),
    Part("fleet", bench_growth.fleet),
)


def main(argv: Sequence[str]) -> int:
    """Measure what is asked for, write it, and return 1 where a promise is missed."""
    parser = argparse.ArgumentParser(description="Measure Sealrun beside plain tools")
    parser.add_argument("--only", action="append", choices=[part.name for part in PARTS], help="one part; repeatable")
    parser.add_argument("--quick", action="store_true", help="one turn, smaller sizes")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="where bench.md goes (default: docs)")
    options = parser.parse_args(argv)
    rows: list[bench_ratios.Row] = []
    for part in PARTS:
        if not options.only or part.name in options.only:
            print(f"measuring {part.name}", file=sys.stderr, flush=True)
            rows += part.measure(options.quick)
            print("\n".join(row.line() for row in rows if row.part == part.name), flush=True)
    bench_plot.write(options.out, rows, whole=not options.only and not options.quick)
    missed = [row.name for row in rows if not row.holds]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
