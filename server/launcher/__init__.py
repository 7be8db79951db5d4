"""From a machine that has nothing but Python to the server, with the standard library alone.

Comes in: the lock beside this folder. Goes out: a folder of packages that are complete, and the
server in this process. Never: a package whose hash is not in the lock, code that is built here,
a word on stdout, a file in the skill's own folder.
"""
