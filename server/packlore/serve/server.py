"""Binds tools, prompts, resources and the Skills extension to the SDK's MCPServer."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, get_args

from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ResourcesListChanged,
    ResourceUpdated,
)
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolResult,
    Completion,
    InputRequiredResult,
    ListResourcesResult,
    PaginatedRequestParams,
    Resource,
)
from starlette.applications import Starlette

from packlore.library import Library
from packlore.pack import visible
from packlore.project import Project
from packlore.serve.bind import prompt, tool
from packlore.serve.log import without_rich
from packlore.serve.pages import paged
from packlore.serve.skills import SkillsExtension, resources
from packlore.serve.tools import PROMPTS, TOOLS, Prompts, Tools, complete, instructions

PAGE = 200
"""Files of one page of resources/list: a pack of ours is one page."""
_HINT = CacheHint(ttl_ms=3_600_000, scope="public")
"""A snapshot changes only where someone edits the pack: an hour, for everyone."""
_WATCHED_HINT = CacheHint(ttl_ms=0, scope="public")


class PackServer(MCPServer[Any]):
    """A server over the snapshot in a library; it never goes back to the disk by itself."""

    def __init__(
        self,
        library: Library,
        *,
        structured: bool = False,
        watched: bool = False,
        local: bool = False,
        project: Project | None = None,
    ) -> None:
        """`local` where the client's files are those of this process; `project` is what it works
        on, where answers are to say what does not hold for the versions there."""
        self._project = project
        self._tools, self._prompts = Tools(library), Prompts(library)
        hint = _WATCHED_HINT if watched else _HINT
        self._skills = SkillsExtension(hint.ttl_ms)
        self._bus = InMemorySubscriptionBus()
        with without_rich():
            super().__init__(
                name="packlore",
                version=next(iter(library.packs.values())).version,
                instructions=instructions(library),
                tools=[
                    tool(name, self._tools, structured=structured, local=local) for name in TOOLS
                ],
                extensions=[self._skills],
                log_level="WARNING",
                cache_hints=dict.fromkeys(get_args(CacheableMethod), hint),
                # Without it the SDK declares no listChanged. With it, it declares one for tools and
                # prompts as well: it has a single switch, and what changes here are resources.
                subscriptions=self._bus if watched else False,
            )
        for name in PROMPTS:
            self.add_prompt(prompt(getattr(self._prompts, name)))
        self.completion()(self._complete)  # type: ignore[no-untyped-call]
        self._load(library)

    async def replace(self, library: Library) -> None:
        """Serve another snapshot from now on, and tell those who listen."""
        before = self._resources
        self._load(library)
        await self._bus.publish(ResourcesListChanged())
        for uri, (_, data) in before.items():
            if uri not in self._resources or self._resources[uri][1] != data:
                await self._bus.publish(ResourceUpdated(uri=uri))

    def _load(self, library: Library) -> None:
        library.project = self._project
        self._tools.library = self._prompts.library = self._library = library
        self._skills.load(library)
        self._resources = resources(library)
        self.rules = sum(1 for _ in library.rules())

    def http_app(self, *, hosts: list[str], origins: list[str], sessions: bool) -> Starlette:
        """The application for streamable HTTP at /mcp, for requests with one of these Host and
        Origin headers."""
        security = TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)
        return self.streamable_http_app(
            stateless_http=not sessions,
            json_response=not sessions,
            transport_security=security,
        )

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Any = None
    ) -> CallToolResult | InputRequiredResult:
        """A tool's answer. ToolError names the tools where there is none of this name."""
        if name not in TOOLS:
            raise ToolError(f"Unknown tool: {name[:80]!r}; there are: {', '.join(TOOLS)}")
        return await super().call_tool(name, arguments, context)

    async def _handle_list_resources(
        self, _ctx: Any, params: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        """In pages: the SDK's own lists all at once."""
        rows, cursor = await self.list_resources(), params.cursor if params else None
        uris = [each.uri for each in rows]
        page, following = paged("resources/list", rows, uris, cursor, PAGE)
        return ListResourcesResult(resources=list(page), next_cursor=following)

    async def list_resources(self) -> list[Resource]:
        """Every file of every pack."""
        return [described for described, _ in self._resources.values()]

    async def read_resource(self, uri: Any, _context: Any = None) -> Iterable[ReadResourceContents]:
        """The very bytes that a skill's manifest has the digest of: text where they are UTF-8."""
        found = self._resources.get(str(uri))
        if found is None:
            raise ResourceNotFoundError(f"unknown resource {visible(str(uri)[:200])}")
        described, data = found
        content: str | bytes = data
        with suppress(UnicodeDecodeError):
            content = data.decode("utf-8")
        return [ReadResourceContents(content=content, mime_type=described.mime_type)]

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Any = None
    ) -> Any:
        """A prompt's message. What is refused says what would be accepted."""
        if name not in PROMPTS:
            message = f"no prompt {name[:80]!r}; there are: {', '.join(PROMPTS)}"
            raise MCPError(code=INVALID_PARAMS, message=message)
        (known,) = [each for each in await self.list_prompts() if each.name == name]
        taken = {each.name: each.required for each in known.arguments or ()}
        given = arguments or {}
        if wrong := [each for each in taken if taken[each] and each not in given]:
            raise MCPError(code=INVALID_PARAMS, message=f"{name} needs {', '.join(wrong)}")
        if wrong := sorted(visible(each[:40]) for each in given if each not in taken):
            message = f"unknown argument {', '.join(wrong[:5])}: {name} takes {', '.join(taken)}"
            raise MCPError(code=INVALID_PARAMS, message=message)
        return await super().get_prompt(name, given, context)

    async def _complete(self, _ref: Any, argument: Any, _context: Any) -> Completion:
        values = complete(self._library, argument.name, argument.value)
        return Completion(values=values[:100], total=len(values), has_more=len(values) > 100)
