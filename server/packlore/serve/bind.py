"""Functions of tools.py to the SDK's tools and prompts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult, TextContent, ToolAnnotations
from pydantic import ValidationError

from packlore.errors import PackError
from packlore.pack import visible
from packlore.serve.tools import LOCAL, Answer, Tools, description

DATA_KEY = "packlore/data"
"""Where a result's `_meta` carries what it says to a program.

Not in `structuredContent`: where that is present, Claude Code 2.1.330 shows it to the model and
drops the text, so the rule itself would never be read. `serve --structured` puts it there for
hosts that show both.
"""


class _StrictTool(Tool):
    """Refuses arguments that it does not know: the SDK would ignore a misspelt filter."""

    async def run(
        self, arguments: dict[str, Any], context: Any, convert_result: bool = False
    ) -> Any:
        accepted = self.parameters["properties"]
        unknown = sorted(set(arguments) - set(accepted))
        if unknown:
            given = ", ".join(visible(name[:40]) for name in unknown[:5])
            raise ToolError(f"unknown argument {given}: {self.name} takes {', '.join(accepted)}")
        try:
            return await super().run(arguments, context, convert_result)
        except ToolError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            wrong = (
                f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
                for each in error.__cause__.errors()[:5]
            )
            raise ToolError(visible(f"{self.name}: {'; '.join(wrong)}")) from error


def tool(name: str, tools: Tools, *, structured: bool, local: bool) -> Tool:
    """The SDK's form of a function of tools.py; a server that is not `local` takes no paths."""
    answer: Callable[..., Answer] = getattr(tools, name)

    @wraps(answer)
    def call(*args: Any, **kwargs: Any) -> CallToolResult:
        try:
            given = answer(*args, **kwargs)
        except PackError as error:
            raise ToolError(visible(str(error))) from error
        data = dict(given.data)
        return CallToolResult(
            content=[TextContent(type="text", text=given.text)],
            structured_content=data if structured and data else None,
            _meta=None if structured or not data else {DATA_KEY: data},
        )

    signature = inspect.signature(answer, eval_str=True)
    left_out = () if local else LOCAL.get(name, ())
    taken = [each for each in signature.parameters.values() if each.name not in left_out]
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=taken, return_annotation=CallToolResult
    )
    call.__annotations__ = {
        **{each.name: each.annotation for each in taken},
        "return": CallToolResult,
    }
    made = _StrictTool.from_function(
        call,
        name=name,
        description=description(name, tools.library),
        annotations=ToolAnnotations(read_only_hint=True),
        structured_output=False,
    )
    made.parameters = _slim(made.parameters)
    return made


def prompt(render: Callable[..., str]) -> Prompt:
    """The SDK's form of a prompt of tools.py."""

    @wraps(render)
    def call(*args: Any, **kwargs: Any) -> str:
        try:
            return render(*args, **kwargs)
        except PackError as error:
            raise MCPError(code=INVALID_PARAMS, message=visible(str(error))) from error

    return Prompt.from_function(call)


def _slim(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without the titles that pydantic adds, which repeat the names, and without
    defaults that say nothing."""

    def kept(key: str, value: object) -> bool:
        return key != "title" and not (key == "default" and value in ("", False))

    slim = {key: value for key, value in schema.items() if key != "title"}
    slim["properties"] = {
        name: {key: value for key, value in each.items() if kept(key, value)}
        for name, each in schema.get("properties", {}).items()
    }
    return slim
