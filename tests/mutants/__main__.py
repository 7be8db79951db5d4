"""`python -m tests.mutants [RULE ...]`: change the Correct blocks, and see whether a test notices.

Without rules: of all. Exit code 0 where every survivor is listed with its reason, 1 where one is
not or a proof is broken, 2 for a wrong call.
"""

from __future__ import annotations

import argparse
import difflib
import os
import random
import secrets
import sys
import time
from collections.abc import Sequence

from tests.mutants.generate import Mutant
from tests.mutants.records import Subject, rules
from tests.mutants.run import Broken, Result, run, tasks


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("rules", nargs="*", metavar="RULE", help="e.g. asyncio-timeout")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once (1)")
    parser.add_argument("--only-stale", action="store_true", help="rules whose record is stale")
    parser.add_argument("--survivors", action="store_true", help="print the change of each")
    parser.add_argument("--killers", action="store_true", help="print which test noticed each")
    parser.add_argument("--list", action="store_true", help="print the names and run nothing")
    parser.add_argument("--match", metavar="TEXT", help="only names with this text; no record")
    parser.add_argument(
        "--sample", type=int, metavar="N", help="only N of fresh records, to compare"
    )
    parser.add_argument("--seed", type=int, help="of the sample; printed where it is not given")
    options = parser.parse_args(given)
    known = rules()
    for rule in options.rules:
        if rule not in known:
            near = difflib.get_close_matches(rule, known, 1)
            parser.error(f"no rule {rule}" + (f"; did you mean {near[0]}?" if near else ""))
    if sum(map(bool, (options.only_stale, options.match, options.sample))) > 1:
        parser.error("--only-stale, --match and --sample do not go together")
    if options.jobs < 1 or (options.sample is not None and options.sample < 1):
        parser.error("--jobs and --sample take a number from 1")
    return options


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _diff(result: Result) -> str:
    before, after = result.subject.code, result.mutant.code
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    return "\n".join(f"    {line}" for line in list(lines)[2:])


Chosen = list[tuple[Subject, Sequence[Mutant]]]


def _chosen(options: argparse.Namespace) -> Chosen:
    subjects = [Subject(name) for name in options.rules or rules()]
    if options.only_stale or options.sample:  # a sample is compared with fresh records
        subjects = [each for each in subjects if bool(each.stale()) is options.only_stale]
    chosen: Chosen = [(subject, subject.mutants) for subject in subjects]
    if options.match:
        chosen = [
            (subject, [each for each in found if options.match in each.name])
            for subject, found in chosen
        ]
    if options.sample:
        seed = secrets.randbelow(10**6) if options.seed is None else options.seed
        _say(f"--sample {options.sample} --seed {seed}")
        every = [(subject, each) for subject, found in chosen for each in found]
        drawn = random.Random(seed).sample(every, min(options.sample, len(every)))
        chosen = [(subject, [each for of, each in drawn if of is subject]) for subject, _ in chosen]
    return [(subject, found) for subject, found in chosen if found]


def _over(
    subject: Subject, found: Sequence[Mutant], results: list[Result], options: argparse.Namespace
) -> bool:
    """Say how a rule ended, and record it; whether all is well."""
    survivors = [each for each in results if not each.killed]
    for each in results:
        if options.killers and each.killed:
            _say(f"  killed `{each.mutant.name}` by {each.test}: {each.why}")
    listed = subject.reasons
    for each in survivors:
        _say(f"  survived{' (listed)' * (each.mutant.name in listed)} `{each.mutant.name}`")
        if options.survivors:
            _say(_diff(each))
    names = [each.mutant.name for each in survivors]
    if options.match:
        return not set(names) - set(listed)
    if options.sample:
        record = subject.load()
        known = [each.name for each in found if record and each.name in record.survivors]
        if differing := set(known) ^ set(names):
            _say(f"  {subject.name}: not as recorded: {sorted(differing)}")
        return not differing
    subject.save(subject.record(names))
    for misfit in (misfits := subject.misfits()):
        _say(f"  {misfit}")
    return not misfits and not subject.unlisted()


def main(given: Sequence[str] | None = None) -> int:
    options = _arguments(given)
    chosen = _chosen(options)
    if options.list:
        for subject, found in chosen:
            sys.stdout.write("".join(f"{subject.name}: {each.name}\n" for each in found))
        return 0
    total = sum(len(found) for _, found in chosen)
    _say(f"{total} mutants of {len(chosen)} rules")
    began = time.monotonic()
    results: dict[str, list[Result]] = {subject.name: [] for subject, _ in chosen}
    broken: set[str] = set()
    well, done = True, 0
    for each in run(tasks(chosen, options.jobs), options.jobs):
        name = each.subject.name
        if isinstance(each, Broken):
            if name not in broken:
                _say(f"{name}: {each.why}")
            broken.add(name)
            continue
        done += 1
        results[name].append(each)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{done}/{total} {time.monotonic() - began:.0f} s {name:40}\r")
        (found,) = (of for subject, of in chosen if subject.name == name)
        if len(results[name]) == len(found):
            killed = sum(result.killed for result in results[name])
            took = time.monotonic() - began
            _say(f"{name}: {killed} of {len(found)} killed ({done}/{total}, {took:.0f} s)")
            well &= _over(each.subject, found, results[name], options)
    return 0 if well and not broken else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        os._exit(130)
