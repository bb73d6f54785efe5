"""`stage NAME`: what a stage's nox session runs."""

import argparse
from pathlib import Path

from sealrun.command import Command, release_options


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stage")
    parser.add_argument("targets", nargs="*", type=Path, help="judge these instead of the release's own")
    parser.add_argument("--tree", type=Path, metavar="DIR", help="judge this repository instead of Sealrun's own checkout")
    parser.add_argument("--load", type=Path, metavar="FILE", help="a module of that repository that declares the stage")
    parser.add_argument("--since", default="", metavar="REV", help="secrets: leave out the history that REV reaches")
    parser.add_argument("--shard", default="", metavar="K/N", help="secrets, certify: gather one share; all/N: take all shares")
    release_options(parser)
    parser.add_argument("--report-only", action="store_true", help="end with 0 when a gate said no; no bundle takes the result")
    parser.add_argument(
        "--continue-on-failure",
        action="store_true",
        help="end with 0 when a gate said no, so that later stages report too",
    )


def _run(options: argparse.Namespace) -> int:
    from sealrun import console, pipeline, result, sandbox
    from sealrun.errors import UsageError
    from sealrun.evidence import shards
    from sealrun.outcome import Verdict
    from sealrun.stage import context_of

    sandbox.end_with_parent()
    if options.load:
        pipeline.load(options.load)
    if options.targets and not pipeline.stage_named(options.stage).takes_targets:
        taking = ", ".join(name for name, stage in pipeline.stages().items() if stage.takes_targets)
        raise UsageError(f"{options.stage}: judges a release, got {options.targets[0]}; files and folders are for {taking}")
    context = context_of(options.root, options.config, options.out, tuple(options.targets), options.since, options.tree,
                         report_only=options.report_only, cache=options.cache)  # fmt: skip
    stage, shard = pipeline.stage_named(options.stage), shards.parse(options.shard) if options.shard else None
    if shard and shard.number:
        made = pipeline.execute_shard(stage, context, shard)
        console.shard_summary(made, shards.place(context.out, stage.name, shard))
        result.emit(result.Result(command=f"{stage.name} {shard}", verdict=Verdict.PASSED, exit_code=0), options.json)
        return result.EXIT_PASSED
    predicate = pipeline.execute(stage, context, fresh=options.fresh, shards_of=shard.of if shard else 0).predicate
    console.stage_summary(predicate, pipeline.progress_of(context, options.stage))
    code = predicate.error_code or (result.EXIT_PASSED if predicate.verdict is Verdict.PASSED else result.EXIT_FAILED)
    result.emit(
        result.Result(
            command=options.stage, verdict=predicate.verdict, exit_code=code, controls=predicate.outcomes,
            findings=predicate.findings, error=predicate.error, enforced=not options.report_only,
        ),
        options.json,
    )  # fmt: skip
    return result.EXIT_PASSED if (options.continue_on_failure or options.report_only) and code == result.EXIT_FAILED else code


COMMANDS = (Command(name="stage", summary="Run one stage of the pipeline", arguments=_arguments, run=_run),)
