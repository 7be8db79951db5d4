"""The main job at once: a client starts the server over stdio and asks it for an error message."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

ROOT = Path(__file__).resolve().parents[1]
ERROR = (
    "sqlalchemy.exc.MissingGreenlet: greenlet_spawn has not been called; "
    "can't call await_() here. Was IO attempted in an unexpected place?"
)
CONNECT = """\
Connect Claude Code, then ask it to use the python-backend rules:

  claude mcp add packlore -- {python} -P -m packlore serve --pack {root}

Connect Cursor, in .cursor/mcp.json of your project:

  {{"mcpServers": {{"packlore": {{"command": "{python}",
    "args": ["-P", "-m", "packlore", "serve", "--pack", "{root}"]}}}}}}
"""


async def main() -> None:
    """Ask once and print what came."""
    command = [sys.executable, "-P", "-m", "packlore", "serve", "--pack", str(ROOT)]
    server = StdioServerParameters(command=command[0], args=command[1:])
    async with asyncio.timeout(60), Client(stdio_client(server)) as client:
        result = await client.call_tool("find_rules", {"query": ERROR})
        text = "".join(getattr(block, "text", "") for block in result.content)
        out = [f"packlore over MCP {client.protocol_version} was asked for:", "", f"  {ERROR}", ""]
        out += ["and answered:", "", *(f"  {line}".rstrip() for line in text.splitlines()), ""]
        sys.stdout.write("\n".join(out) + "\n")
    sys.stdout.write(CONNECT.format(python=sys.executable, root=ROOT))


if __name__ == "__main__":
    asyncio.run(main())
