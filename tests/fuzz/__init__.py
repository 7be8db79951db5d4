"""`make fuzz`: made-up packs, queries and messages against the server's own code, for any time.

Comes in: how many seconds, and a seed. Goes out: what each target was given, and each input that
broke it, in a folder outside the tree. Never: a verdict on the rules of a pack.
"""
