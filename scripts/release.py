"""Commits what users need to the branch `skill`: HEAD without what only those who work on the
repository need. `npx skills add OWNER/REPO#skill` then installs no tests. Nothing is pushed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

BRANCH = "skill"
PRIVATE = (".ci", ".gitignore", "benchmarks", "scripts", "tests")


def git(*arguments: str, **environ: str) -> bytes:
    """What git says to a command."""
    env = {**os.environ, **environ}
    return subprocess.run(["git", *arguments], check=True, capture_output=True, env=env).stdout


def main() -> None:
    """Make the commit, after those of earlier releases, and say where it is."""
    head = git("rev-parse", "--short", "HEAD").decode().strip()
    earlier = git("for-each-ref", "--format=%(objectname)", f"refs/heads/{BRANCH}").decode().split()
    kept_back = [f":(exclude){name}" for name in PRIVATE]
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(git("archive", "HEAD", ".", *kept_back))) as archive:
            archive.extractall(Path(folder, "tree"), filter="data")
        place = {"GIT_INDEX_FILE": f"{folder}/index", "GIT_WORK_TREE": f"{folder}/tree"}
        git("add", "--all", "--force", ".", **place)
        tree = git("write-tree", **place).decode().strip()
    parents = [argument for commit in earlier for argument in ("-p", commit)]
    commit = git("commit-tree", tree, *parents, "-m", f"Release of {head}").decode().strip()
    git("branch", "--force", BRANCH, commit)
    sys.stdout.write(f"branch {BRANCH} is {commit[:10]}, from {head}: push it with the tag\n")


if __name__ == "__main__":
    main()
