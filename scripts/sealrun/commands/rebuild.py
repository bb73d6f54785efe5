"""`rebuild BUNDLE`: what `reproduce` runs with the code of the sources that it reproduces."""

import argparse
from dataclasses import replace
from pathlib import Path

from sealrun.command import Command, config_option


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path)
    config_option(parser)
    parser.add_argument("--out", type=Path)


def _run(options: argparse.Namespace) -> int:
    from sealrun import console, pipeline, rebuild, result
    from sealrun.evidence import bundle
    from sealrun.stage import context_of

    root = options.root.resolve()
    context = replace(context_of(root, options.config, options.out), cache=None)  # nothing of a bundle's gets in there
    for name in pipeline.stages():
        pipeline.install(root, name, options.config)
    with bundle.opened(options.bundle) as archive:
        rebuild.assume_keys(archive)
        stopped = rebuild.rebuild(context, archive)
    for why in stopped:
        console.said(why)
    return result.EXIT_FAILED if stopped else result.EXIT_PASSED


COMMANDS = (
    Command(name="rebuild", summary="Make a bundle again, unsigned (used by reproduce)", arguments=_arguments, run=_run),
)
