"""A small actor-style message bus over ZeroMQ, with a deterministic simulator of the same contract.

It knows nothing of storage. Read :mod:`actors.core` first: it is the whole contract.
"""
