"""Mutation testing of the blocks that are copied: is each line there because a test needs it?

In goes a rule; its Correct block is changed in one place at a time and given to the rule's proof in
place of the block. Out comes a record of how many changes the proof noticed, and of those that it
did not. Nothing of the pack is changed by it.
"""
