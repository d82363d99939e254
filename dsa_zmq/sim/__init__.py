"""Whole clusters in the deterministic simulator: shipped master, nodes and clients over simulated disks and networks.

``cluster`` puts one together, ``ledger`` records what its users asked and heard and judges it, ``audit`` looks at the disks,
``scenarios`` break things on purpose, ``campaign`` runs them over many seeds, and ``planting`` shows that they can fail.
"""
