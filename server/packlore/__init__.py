"""packlore: serves packs of proven rules to coding agents, over MCP and on the command line."""
