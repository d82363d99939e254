"""Whom a runtime does not hear, and whom it does not speak to: a network cut, made by the one who is cut off.

For testing what actors do about it. The connections themselves go on, with their own heartbeats: so a cut is silence, and
no event tells of it. Two runtimes are cut off from each other as soon as one of them is told to be both deaf and mute.
"""

from __future__ import annotations

from dataclasses import dataclass

NOBODY: frozenset[str] = frozenset()


@dataclass(slots=True)
class Cut:
    """Peers by all they are known by: their names (without incarnations) and their endpoints. The sets are replaced, never
    changed, so that any thread may do it while the reactor looks at them."""

    deaf_to: frozenset[str] = NOBODY  #: what they send is thrown away
    mute_to: frozenset[str] = NOBODY  #: what is sent to them is thrown away

    def silences(self, to: str) -> bool:
        """Whether a message to this address (an endpoint, or a name with its incarnation) must not leave."""
        return bool(self.mute_to) and (to if "://" in to else to.rpartition("/")[0]) in self.mute_to
