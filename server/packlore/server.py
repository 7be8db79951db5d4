"""Binds tools, prompts, resources and the Skills extension to the SDK's MCPServer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from mcp.server.caching import CacheHint
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, Completion, TextContent, ToolAnnotations

from packlore.errors import PackError
from packlore.library import Library
from packlore.skills import SkillsExtension, skill_resources
from packlore.tools import PROMPTS, TOOLS, Answer, Prompts, Tools, complete, instructions

DATA_KEY = "packlore/data"
"""Where a result's `_meta` carries what it says to a program.

Not in `structuredContent`: Claude Code and Codex show a model that and drop the text, so the
rule itself would never be read. `serve --structured` puts it there for hosts that show both.
"""
_HINT = CacheHint(ttl_ms=3_600_000, scope="public")


def build_server(library: Library, *, structured: bool = False) -> MCPServer[Any]:
    """A server over the snapshot in `library`; it never goes back to the disk."""
    first = next(iter(library.packs.values()))
    tools, prompts = Tools(library), Prompts(library)
    server: MCPServer[Any] = MCPServer(
        name="packlore",
        version=first.version,
        instructions=instructions(library),
        tools=[_tool(name, getattr(tools, name), structured=structured) for name in TOOLS],
        resources=skill_resources(library),
        extensions=[SkillsExtension(library)],
        log_level="WARNING",
        cache_hints=dict.fromkeys(
            (
                "tools/list",
                "prompts/list",
                "resources/list",
                "resources/templates/list",
                "resources/read",
                "server/discover",
            ),
            _HINT,
        ),
    )
    for name in PROMPTS:
        server.add_prompt(Prompt.from_function(getattr(prompts, name), name=name))

    async def completions(_ref: Any, argument: Any, _context: Any) -> Completion:
        values = complete(library, argument.name, argument.value)
        return Completion(values=values[:100], total=len(values), has_more=len(values) > 100)

    server.completion()(completions)  # type: ignore[no-untyped-call]
    return server


def _tool(name: str, answer: Callable[..., Answer], *, structured: bool) -> Tool:
    """The SDK's form of a function of tools.py."""

    @wraps(answer)
    def call(*args: Any, **kwargs: Any) -> CallToolResult:
        try:
            given = answer(*args, **kwargs)
        except PackError as error:
            raise ToolError(str(error)) from error
        data = dict(given.data)
        return CallToolResult(
            content=[TextContent(type="text", text=given.text)],
            structured_content=data if structured and data else None,
            _meta=None if structured or not data else {DATA_KEY: data},
        )

    signature = inspect.signature(answer, eval_str=True)
    call.__signature__ = signature.replace(return_annotation=CallToolResult)  # type: ignore[attr-defined]
    call.__annotations__ = {
        **{each.name: each.annotation for each in signature.parameters.values()},
        "return": CallToolResult,
    }
    tool = Tool.from_function(
        call,
        name=name,
        description=inspect.getdoc(answer),
        annotations=ToolAnnotations(read_only_hint=True),
        structured_output=False,
    )
    tool.parameters = _without_titles(tool.parameters)
    return tool


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without the titles that pydantic adds: they repeat the names."""
    slim = {key: value for key, value in schema.items() if key != "title"}
    slim["properties"] = {
        name: {key: value for key, value in each.items() if key != "title"}
        for name, each in schema.get("properties", {}).items()
    }
    return slim
