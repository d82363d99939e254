"""Measurements, as ratios to limits of the same run."""
