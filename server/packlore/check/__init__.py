"""From code to findings.

Comes in: source files, and the detectors of a pack, which are data. Goes out: findings with path,
line, column and rule. Never: code of a pack that is run. Empty until there are detectors.
"""

__all__: list[str] = []
