"""The findings of a code base that begins with checking: those are known, and only new ones are
told. A finding is known by its file, its rule and the text of its line, so that lines may move."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packlore.check.files import whole
from packlore.check.model import Finding
from packlore.errors import BadArgumentError

VERSION = 1
MAX_FILE = 32 * 1024 * 1024
"""Bytes of a baseline."""


def written(findings: Iterable[Finding]) -> str:
    """A baseline as JSON: digests by file, each with its number, in a stable order."""
    counts = Counter(map(_key, findings))
    files: dict[str, dict[str, int]] = {}
    for path, digest in sorted(counts):
        files.setdefault(path, {})[digest] = counts[path, digest]
    return json.dumps({"version": VERSION, "files": files}, indent=1, ensure_ascii=False) + "\n"


def load(path: Path) -> Counter[tuple[str, str]]:
    """The known findings, each as often as it is known. BadArgumentError for what is none."""
    try:
        return _counts(json.loads(whole(path, MAX_FILE)))
    except FileNotFoundError as error:
        message = f"no baseline at {path}: write one with --write-baseline {path}"
        raise BadArgumentError(message) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise BadArgumentError(f"{path} is no baseline of packlore: {reason}") from error


def new(findings: Iterable[Finding], known: Counter[tuple[str, str]]) -> list[Finding]:
    """The findings that are not known: of three equal ones where two are known, the last."""
    left = known.copy()
    found = []
    for finding in findings:
        key = _key(finding)
        if left[key] > 0:
            left[key] -= 1
        else:
            found.append(finding)
    return found


def _counts(given: dict[str, Any]) -> Counter[tuple[str, str]]:
    if given["version"] != VERSION:
        raise ValueError(f"version {given['version']}")
    return Counter(
        {
            (str(name), str(digest)): int(count)
            for name, digests in given["files"].items()
            for digest, count in digests.items()
        }
    )


def _key(finding: Finding) -> tuple[str, str]:
    said = f"{finding.rule}\n{' '.join(finding.code.split())}"
    return finding.path, hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:16]
