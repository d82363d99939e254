"""The deterministic simulator: the same actors under virtual time, from one seed, with faults."""
