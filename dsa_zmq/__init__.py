"""DSA: a distributed, self-healing file store that you ``pip install``."""

from __future__ import annotations

__version__ = "0.1.0"
