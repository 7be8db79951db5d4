"""Packs to the MCP Skills extension (SEP-2640), with reading of directories.

Every digest is over the bytes that a read of the same URI answers with: both come from the
snapshot in the library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from mcp.server.context import ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, PaginatedRequestParams, RequestParams, Resource

from packlore.library import Library
from packlore.pack import Pack, PackFile
from packlore.serve.pages import paged

IDENTIFIER = "io.modelcontextprotocol/skills"
VERSIONS = frozenset({"2026-07-28"})
PAGE = 50
"""Entries of one page, of skills and of a directory."""
MAX_ENTRIES = 512
MAX_BYTES = 16_777_216
"""The specification's limits for a listed skill; a larger one says "dynamic"."""

_Context = ServerRequestContext[Any, Any]


class UriParams(RequestParams):
    """Params of skills/get."""

    uri: str


class DirectoryParams(PaginatedRequestParams):
    """Params of resources/directory/read."""

    uri: str


class SkillsExtension(Extension):
    """skills/list, skills/get and resources/directory/read over a library's snapshot."""

    identifier = IDENTIFIER

    def __init__(self, ttl_ms: int) -> None:
        """Serves nothing until `load`; `ttl_ms` is how long a client may keep an answer."""
        self._cache = {"ttlMs": ttl_ms, "cacheScope": "public"}

    def load(self, library: Library) -> None:
        """Serve another snapshot from now on."""
        skills = {f"{root}/SKILL.md": (root, pack) for root, pack in skill_roots(library)}
        self._entries = {
            uri: _entry(root, pack)
            for uri, (root, pack) in skills.items()
            if any(file.path == "SKILL.md" for file in pack.files) and pack.frontmatter
        }
        self._directories = _directories(library)

    def settings(self) -> dict[str, Any]:
        """What the server declares."""
        return {"directoryRead": True}

    def methods(self) -> Sequence[MethodBinding]:
        """The methods, for the protocol version that knows them."""
        return (
            MethodBinding("skills/list", PaginatedRequestParams, self.list, VERSIONS),
            MethodBinding("skills/get", UriParams, self.get, VERSIONS),
            MethodBinding("resources/directory/read", DirectoryParams, self.directory, VERSIONS),
        )

    async def list(self, _: _Context, params: PaginatedRequestParams) -> dict[str, Any]:
        """A page of all skills."""
        rows = list(self._entries.values())
        page, following = paged("skills/list", rows, list(self._entries), params.cursor, PAGE)
        return {"resultType": "complete", "skills": page, **_next(following), **self._cache}

    async def get(self, _: _Context, params: UriParams) -> dict[str, Any]:
        """One skill by the URI of its SKILL.md."""
        entry = self._entries.get(params.uri)
        if entry is None:
            raise MCPError(
                code=INVALID_PARAMS,
                message=f"unknown skill {_shown(params.uri)}: skills/list names them",
            )
        return {"resultType": "complete", "skill": entry, **self._cache}

    async def directory(self, _: _Context, params: DirectoryParams) -> dict[str, Any]:
        """The direct children of a directory."""
        children = self._directories.get(params.uri)
        if children is None:
            raise MCPError(code=INVALID_PARAMS, message=f"not a directory: {_shown(params.uri)}")
        uris = [each["uri"] for each in children]
        method = "resources/directory/read"
        page, following = paged(method, children, uris, params.cursor, PAGE)
        return {"resultType": "complete", "resources": page, **_next(following)}


def skill_roots(library: Library) -> Iterator[tuple[str, Pack]]:
    """Each pack after the URI of its folder."""
    return ((library.roots[key], pack) for key, pack in library.packs.items())


def resources(library: Library) -> dict[str, tuple[Resource, bytes]]:
    """Every file of every pack by its URI: how it is listed, and the bytes that were hashed."""
    return {
        described.uri: (described, file.data)
        for root, pack in skill_roots(library)
        for file in pack.files
        for described in (_describe(root, pack, file),)
    }


def _describe(root: str, pack: Pack, file: PackFile) -> Resource:
    """How a file is listed; SKILL.md goes by the name and description of its frontmatter."""
    skill = file.path == "SKILL.md" and bool(pack.frontmatter)
    return Resource(
        uri=_uri(root, file),
        name=pack.name if skill else file.path,
        description=(pack.description or None) if skill else None,
        mime_type=file.mime,
        size=len(file.data),
    )


def _uri(root: str, file: PackFile) -> str:
    return f"{root}/{quote(file.path, safe='/')}"


def _digest(file: PackFile) -> str:
    return f"sha256:{hashlib.sha256(file.data).hexdigest()}"


def _entry(root: str, pack: Pack) -> dict[str, Any]:
    small = len(pack.files) <= MAX_ENTRIES and sum(len(f.data) for f in pack.files) <= MAX_BYTES
    return {
        "uri": f"{root}/SKILL.md",
        "frontmatter": dict(pack.frontmatter),
        "resources": [
            {"uri": _uri(root, file), "digest": _digest(file), "size": len(file.data)}
            for file in pack.files
        ]
        if small
        else "dynamic",
    }


def _directories(library: Library) -> Mapping[str, list[dict[str, Any]]]:
    """Every directory's URI and its direct children, from the first segment of a skill path on."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for root, pack in skill_roots(library):
        found.setdefault(root, {})
        for file in pack.files:
            shown = _describe(root, pack, file)
            row = shown.model_dump(mode="json", by_alias=True, exclude_none=True)
            found.setdefault(shown.uri.rpartition("/")[0], {})[shown.uri] = row
    for directory in list(found):
        child = directory
        while (parent := child.rpartition("/")[0]) != "skill:/":
            name = unquote(child.rpartition("/")[2])
            row = {"uri": child, "name": name, "mimeType": "inode/directory"}
            found.setdefault(parent, {})[child] = row
            child = parent
    return {uri: [rows[each] for each in sorted(rows)] for uri, rows in found.items()}


def _next(cursor: str | None) -> dict[str, str]:
    """The field that names the next page; none on the last one."""
    return {} if cursor is None else {"nextCursor": cursor}


def _shown(uri: str) -> str:
    return repr(uri if len(uri) <= 200 else f"{uri[:200]}…")
