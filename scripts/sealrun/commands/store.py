"""`store.*`: keep bundles for as long as their signed retention says."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sealrun.command import Command, json_option, ledger_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sealrun.evidence.ledger import Line
    from sealrun.evidence.trust import Trust
    from sealrun.store import Store


def _place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", metavar="PLACE", help="folder or fsspec URL (default: $SEALRUN_STORE, else store/ in the checkout)"
    )


def _keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust", type=Path, help="public key file, or folder of them (default: policy/trust)")


def _added(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="NAME.evidence.tar, with its envelopes and report beside it")
    _keys(parser)
    _place(parser)


def _held(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="its title NAME-VERSION, or its digest sha256:...")
    parser.add_argument("--reason", required=True, help="why; it is kept")
    _place(parser)


def _pruned(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--apply", action="store_true", help="remove; without it nothing is removed, only said")
    ledger_option(parser)
    _place(parser)


def _checked(parser: argparse.ArgumentParser) -> None:
    _keys(parser)
    _place(parser)


def _reaudited(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--advisories",
        type=Path,
        metavar="FILE",
        help="an OSV export or folder of records (default: this checkout's advisories)",
    )
    ledger_option(parser)
    _place(parser)
    json_option(parser)


def _store(options: argparse.Namespace) -> "Store":
    from sealrun import places, settings
    from sealrun.store import Store

    named = options.store or settings.variable("SEALRUN_STORE")
    return Store(places.at(named, options.anchor) if named else places.at("store", options.root.resolve()))


def _add(options: argparse.Namespace) -> int:
    from sealrun import clock, console, promotion
    from sealrun.evidence import verify

    trust, _ = promotion.trusted_at(options.root, options.trust)
    found = verify.verify(options.bundle, trust=trust, fingerprint=None, delivery=None)
    kept, new = _store(options).add(options.bundle, found, clock.now())
    console.said(
        f"{kept.title}: {'kept' if new else 'kept already'}, sha256:{kept.bundle}\n"
        f"class {kept.retention.name}, until {kept.retention.until}: {kept.retention.reason}"
    )
    return 0


def _reaudit(options: argparse.Namespace) -> int:
    from sealrun import clock, console, promotion, reaudit, result
    from sealrun.errors import InputMissing
    from sealrun.evidence import ledger
    from sealrun.outcome import Verdict

    trust, trusted = promotion.trusted_at(options.root, options.trust)
    promoted = {line.promotion.bundle: line.promotion.title for line in ledger.current(_lines(options, trusted)).values()}
    store = _store(options)
    kept = store.kept()
    gone = sorted(title for bundle, title in promoted.items() if bundle not in kept)
    if gone:
        raise InputMissing(
            f"store: keeps no {', '.join(gone)}, which was promoted; add it (`invoke store.add`), or name its store"
        )
    found = []
    for bundle in promoted:
        with store.opened(kept[bundle], trust) as path:
            found.append(reaudit.reaudit(path, options.root.resolve(), options.advisories, clock.now().date()))
        console.reaudited(found[-1])
    console.said(f"{len(found)} promoted bundles audited again")
    passed = all(each.verdict is Verdict.PASSED for each in found)
    code = result.EXIT_PASSED if passed else result.EXIT_FAILED
    result.emit(
        result.Result(
            command="store.reaudit", verdict=Verdict.PASSED if passed else Verdict.FAILED, exit_code=code,
            controls=tuple(outcome for each in found for outcome in each.outcomes),
            findings=tuple(finding for each in found for finding in each.findings),
        ),
        options.json,
    )  # fmt: skip
    return code


def _lines(options: argparse.Namespace, trusted: "Trust") -> "Sequence[Line]":
    """Return the lines of the ledger. Raises InputMissing where there is none."""
    from sealrun import promotion
    from sealrun.errors import InputMissing
    from sealrun.evidence import ledger

    path = promotion.ledger_at(options.root, options.ledger)
    if not path.is_file():
        raise InputMissing(
            f"ledger: {path} does not exist, so nobody can say what was promoted last; name it with --ledger (an empty file "
            "says that nothing was promoted)"
        )
    return ledger.read(path, trusted)


def _list(options: argparse.Namespace) -> int:
    from sealrun import console

    store = _store(options)
    kept = store.kept()
    for record in sorted(kept.values(), key=lambda record: (record.title, record.bundle)):
        reason = store.held(record).reason
        held = f", HELD: {reason}" if reason else ""
        console.said(f"{record.title}  sha256:{record.bundle}  {record.retention.name}, until {record.retention.until}{held}")
    console.said(f"{len(kept)} bundles")
    return 0


def _hold(options: argparse.Namespace) -> int:
    return _change_hold(options, held=True)


def _unhold(options: argparse.Namespace) -> int:
    return _change_hold(options, held=False)


def _change_hold(options: argparse.Namespace, *, held: bool) -> int:
    from sealrun import clock, console

    kept = _store(options).hold(options.bundle, options.reason, clock.now(), held=held)
    console.said(f"{kept.title}: {'held' if held else 'no longer held'}: {options.reason}")
    return 0


def _prune(options: argparse.Namespace) -> int:
    from sealrun import clock, console, promotion

    trust, trusted = promotion.trusted_at(options.root, options.trust)
    lines = _lines(options, trusted)
    store, now = _store(options), clock.now()
    for kept, reasons in store.reasons(lines, now.date(), trust):
        console.said(f"{kept.title}  sha256:{kept.bundle}  {'; '.join(reasons) or 'may go'}")
    if not options.apply:
        console.said("nothing was removed: say --apply to remove what may go")
        return 0
    gone, orphans = store.prune(lines, now, trust)
    console.said(f"removed: {', '.join(record.title for record in gone) or 'nothing'}; {len(orphans)} parts")
    return 0


def _check(options: argparse.Namespace) -> int:
    from sealrun import console, promotion
    from sealrun.errors import VerificationFailed

    trust, _ = promotion.trusted_at(options.root, options.trust)
    store, wrong, count = _store(options), 0, 0
    for kept, problem in store.check(trust):
        count, wrong = count + 1, wrong + bool(problem)
        if problem:
            console.said(f"{kept.title}  sha256:{kept.bundle}  WRONG: {problem}")
    orphans = store.orphans()
    console.said(
        f"{count} bundles verified again, {wrong} of them wrong" + (f"; {len(orphans)} parts of none" if orphans else "")
    )
    return VerificationFailed.exit_code if wrong else 0


COMMANDS = (
    Command(name="store.add", summary="Keep a bundle, once it is verified", arguments=_added, run=_add),
    Command(name="store.list", summary="Say what is kept, and until when", arguments=_place, run=_list),
    Command(name="store.hold", summary="Keep a bundle whatever its date, and say why", arguments=_held, run=_hold),
    Command(name="store.unhold", summary="End a hold, and say why", arguments=_held, run=_unhold),
    Command(
        name="store.prune",
        summary="Remove what is past its date, not held, and not the last promoted",
        arguments=_pruned,
        run=_prune,
    ),
    Command(
        name="store.reaudit",
        summary="Audit again what was promoted last, by today's advisories",
        arguments=_reaudited,
        run=_reaudit,
    ),
    Command(name="store.check", summary="Verify everything that is kept again", arguments=_checked, run=_check),
)
