"""From a library to an agent, over MCP.

Comes in: a library, and the options of who starts a server. Goes out: a server over stdio or
HTTP. Never: a search or a rendering of its own.
"""

__all__ = ["run"]
