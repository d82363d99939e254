"""Throughput, latency and memory, as ratios to limits measured in the same run. ``python -m bench --help``."""
