"""`python -m tests.check RULE…`: what a detector sees in its block and in its cases."""

from __future__ import annotations

import sys

from tests.check.detectors import CASES, MARK, findings, pack


def main(names: list[str]) -> None:
    for name in names:
        (rule,) = [each for each in pack().rules if each.id == name]
        wrong = rule.example(correct=False)
        for title, code in (
            ("Incorrect", wrong.fence.code if wrong else ""),
            ("cases", (CASES / f"{name}.py").read_text(encoding="utf-8")),
        ):
            seen = {each.line: each for each in findings(code) if each.rule == name}
            sys.stdout.write(f"{name}, {title}\n")
            for number, row in enumerate(code.split("\n"), start=1):
                wanted = bool(MARK.search(row))
                if number in seen or wanted:
                    said = seen[number].level.label if number in seen else "MISSED"
                    odd = "" if wanted or title == "Incorrect" else "  NOT WANTED"
                    sys.stdout.write(f"  {number:4} {said:8}{row}{odd}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
