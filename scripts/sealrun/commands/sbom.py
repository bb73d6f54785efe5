"""`sbom OUT`: one SBOM over every locked environment, as `scripts/generate_sbom.sh` writes it."""

import argparse
import sys
from pathlib import Path

from sealrun.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", type=Path, metavar="OUT")


def _run(options: argparse.Namespace) -> int:
    from sealrun import console, pipeline, result
    from sealrun.outcome import Verdict
    from sealrun.stage import context_of
    from sealrun.stages import sbom

    context = context_of(options.root, None)
    for name in (*sbom.STAGE.requires, "sbom"):
        pipeline.install(options.root.resolve(), name)
        predicate = pipeline.execute(pipeline.stage_named(name), context).predicate
        if predicate.verdict is not Verdict.PASSED:
            console.stage_summary(predicate, pipeline.progress_of(context, name))
            return predicate.error_code or result.EXIT_FAILED
    sbom.publish(context, options.target)
    print(f"written: {options.target}", file=sys.stderr)
    return 0


COMMANDS = (Command(name="sbom", summary="Write one SBOM over every locked environment", arguments=_arguments, run=_run),)
