"""Does the pack make better code? Agents get tasks, and the rules' own proofs judge the answers.

In: `evals/<rule>/`, and a command that runs an agent. Out: for each rule and arm, how many of the
answers have the rule's fault. An answer is code of a stranger, and the proofs run it: keep to
agents that you trust, or to a machine that holds nothing.
"""
