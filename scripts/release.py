"""Commits what users need of HEAD to two branches, from which they install: no tests, no
benchmarks. Nothing is pushed; .github/workflows/skill.yml does that for each push to `main`.

`skill` is a skill, and a plugin of the clients that have a form of their own. `plugin` has the
layout of Agent Plugins 1.0 (agent-plugins.org): the skill lies in its folder `skills`, which other
clients would take for all that there is.
"""

from __future__ import annotations

import json
import subprocess
import sys

MANIFEST = ".cursor-plugin/plugin.json"
"""What the manifest of Agent Plugins says, too."""
SCHEMAS = "https://agent-plugins.org/schemas/1.0.0"
SKILL = "skills/python-backend"
SERVER = {
    "type": "stdio",
    "command": "python3",
    "args": [f"${{PLUGIN_ROOT}}/{SKILL}/server/launch.py"],
    "env": {"PACKLORE_DATA": "${PLUGIN_DATA}"},
}
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
    """Make both commits."""
    if wanted := nameless():
        sys.exit(wanted)
    head = git("rev-parse", "--short", "HEAD")
    used = git("ls-tree", "HEAD", *USED)
    if missing := set(USED) - {line.partition("\t")[2] for line in used.splitlines()}:
        sys.exit(f"{head} has no {', '.join(sorted(missing))}")
    skill = git("mktree", given=used.encode() + b"\n")
    commit("skill", skill, head)
    commit("plugin", plugin(skill), head)


def plugin(skill: str) -> str:
    """The tree of a plugin that has this tree for its skill."""
    said = json.loads(git("show", f"HEAD:{MANIFEST}"))
    fields = ("name", "version", "description", "author", "license", "keywords")
    manifest = {"$schema": f"{SCHEMAS}/plugin.schema.json"} | {key: said[key] for key in fields}
    servers = {"$schema": f"{SCHEMAS}/mcp.schema.json", "mcpServers": {"packlore": SERVER}}
    skills = git("mktree", given=f"040000 tree {skill}\tpython-backend\n".encode())
    rows = [git("ls-tree", "HEAD", "LICENSE"), f"040000 tree {skills}\tskills"]
    for name, value in (("plugin.json", manifest), ("mcp.json", servers)):
        text = json.dumps(value, indent=2) + "\n"
        blob = git("hash-object", "-w", "--stdin", given=text.encode())
        rows.append(f"100644 blob {blob}\t{name}")
    return git("mktree", given="\n".join([*rows, ""]).encode())


def commit(branch: str, tree: str, head: str) -> None:
    """Put this tree on the branch, after that of its last release, and say where it is."""
    last = git("for-each-ref", "--format=%(objectname) %(tree)", f"refs/heads/{branch}").split()
    if last[1:] == [tree]:
        sys.stdout.write(f"branch {branch} holds this already\n")
        return
    parents = ["-p", last[0]] if last else []
    made = git("commit-tree", tree, *parents, "-m", f"Release of {head}")
    git("branch", "--force", branch, made)
    sys.stdout.write(f"branch {branch} is {made[:10]}, from {head}: git push origin {branch}\n")


if __name__ == "__main__":
    main()
