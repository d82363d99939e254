"""What the kernel says of processes: CPU seconds and resident memory. Linux only; elsewhere the figures are 0."""

from __future__ import annotations

import os
import resource
from pathlib import Path


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far, all its threads."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def own_cpu_s() -> float:
    """The same of this process, exactly."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, pages shared with others included."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def proportional_bytes(pid: int) -> int:
    """Resident memory of a process, each shared page counted in parts: sums over processes are true."""
    return _kib_of(pid, "smaps_rollup", "Pss") << 10


def peak_bytes(pid: int) -> int:
    """The largest resident size so far."""
    return _kib_of(pid, "status", "VmHWM") << 10


def reset_peak(pid: int) -> None:
    """Let :func:`peak_bytes` begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _kib_of(pid: int, file: str, name: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    except OSError:
        return 0
    return 0
