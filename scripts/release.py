"""Commits what users need of HEAD to the branch `skill`, from which they install: no tests, no
benchmarks. Nothing is pushed; .github/workflows/skill.yml does that for each push to `main`."""

from __future__ import annotations

import subprocess
import sys

BRANCH = "skill"
USED = (
    ".claude-plugin",
    ".codex-plugin",
    ".cursor-plugin",
    ".pre-commit-hooks.yaml",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "SKILL.md",
    "action.yml",
    "assets",
    "check-plugin",
    "checklists",
    "examples",
    "gemini-extension.json",
    "metadata.json",
    "pyproject.toml",
    "references",
    "rules",
    "server",
    "terminal.svg",
)


def git(*arguments: str, given: bytes = b"") -> str:
    """What git says to a command that gets `given` as its input."""
    done = subprocess.run(["git", *arguments], check=False, stdout=subprocess.PIPE, input=given)
    if done.returncode:
        sys.exit(1)  # git has said why
    return done.stdout.decode().strip()


def nameless() -> str:
    """What to do where git does not know whose commit it would be; empty where it does."""
    for who in ("AUTHOR", "COMMITTER"):
        known = subprocess.run(["git", "var", f"GIT_{who}_IDENT"], check=False, capture_output=True)
        if known.returncode:
            return (
                "git does not know who you are: set git config user.name and git config "
                "user.email, or GIT_AUTHOR_NAME, GIT_AUTHOR_EMAIL, GIT_COMMITTER_NAME and "
                "GIT_COMMITTER_EMAIL"
            )
    return ""


def main() -> None:
    """Make the commit, after that of the last release, and say where it is."""
    if wanted := nameless():
        sys.exit(wanted)
    head = git("rev-parse", "--short", "HEAD")
    used = git("ls-tree", "HEAD", *USED)
    if missing := set(USED) - {line.partition("\t")[2] for line in used.splitlines()}:
        sys.exit(f"{head} has no {', '.join(sorted(missing))}")
    tree = git("mktree", given=used.encode() + b"\n")
    last = git("for-each-ref", "--format=%(objectname) %(tree)", f"refs/heads/{BRANCH}").split()
    if last[1:] == [tree]:
        sys.stdout.write(f"branch {BRANCH} holds this already\n")
        return
    parents = ["-p", last[0]] if last else []
    commit = git("commit-tree", tree, *parents, "-m", f"Release of {head}")
    git("branch", "--force", BRANCH, commit)
    sys.stdout.write(f"branch {BRANCH} is {commit[:10]}, from {head}: git push origin {BRANCH}\n")


if __name__ == "__main__":
    main()
