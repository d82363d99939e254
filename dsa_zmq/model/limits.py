"""Limits and defaults of the store, each with its unit and reason. Transport limits are in :mod:`actors.limits`."""

from __future__ import annotations

CHUNK_BYTES = 1 << 20  #: default chunk: fastest frame size on loopback, and 64 of them are a page
MIN_CHUNK_BYTES = 4 << 10
MAX_CHUNK_BYTES = 16 << 20
PAGE_BYTES = 64 << 20  #: content per manifest page, at most: what a client holds until the page is staged
MAX_PAGE_CHUNKS = 256  #: rows per manifest page, at most: keeps a page below the control message limit

NAME_BYTES = 255  #: one path component, UTF-8
PATH_BYTES = 4096  #: a whole path, UTF-8

SLOT_SIZES = (
    4 << 10,
    16 << 10,
    64 << 10,
)  #: bytes that a slot given ahead may take; larger files cost bytes, not questions
MAX_SLOTS = 128  #: in one block: some 25 ms of the fastest client, and an answer of some 10 kB

LIST_PAGE = 1000  #: entries per listing message
MAX_CALLS = 256  #: calls in one message
MAX_OPEN_CALLS = 1000  #: unanswered mutating calls per session: bounds its part of the reply table

NODE_CREDIT_BYTES = 8 << 20  #: in flight from one client to one node: bandwidth x delay, not more
CLIENT_CREDIT_BYTES = 64 << 20  #: in flight from one client to all nodes

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 10.0  #: one request with all its retries
PROGRESS_TIMEOUT_S = 30.0  #: a transfer without progress for this long fails
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 2.0
HEDGE_S = 0.5
NODE_SILENT_S = (
    2 * HEDGE_S
)  #: until a client leaves a node: asked if it lives after half of it, answered in the other half

UPLOAD_LEASE_S = 600
UPLOAD_RENEW_S = 60
GRANT_S = 900
GRANT_SLACK_S = 60
REPLY_KEEP_S = 3600

HEARTBEAT_S = 1.0
SUSPECT_S = 3.0
DOWN_S = 10.0

CATALOG_LEVELS = ("sync", "async", "off")
CATALOG_COPIES = "sync"  #: an answer leaves when the catalog's copies hold what it says
CATALOG_LAG_S = 1.0  #: with "async", what the copies may lack at most
CATALOG_HISTORY_S = 3600.0  #: the catalog can be had as of any moment since then; what is removed is kept as long
CATALOG_HOLDERS = 3  #: nodes that are to hold a copy of the catalog
CATALOG_ENOUGH = 2  #: of these have to hold a change before it counts as safe
UNKNOWN_KEEP_S = 7 * 86400  #: after a restore, shards that the catalog does not know are kept for so long
UNPROTECTED_AFTER_S = 5.0  #: without enough of them the master goes on alone, and says so

SEGMENT_BYTES = 64 << 20
RESERVE_MIN_BYTES = 1 << 30
RESERVE_SHARE = 0.05

MASTER_PORT = 7700
HINTS_PORT = 7701
HEARTBEATS_PORT = 7702
NODE_PORT = 7710


def chunks_per_page(chunk_bytes: int) -> int:
    """How many chunks of a content share one manifest page; page ``i`` holds chunks ``[i*n, (i+1)*n)``."""
    return max(1, min(MAX_PAGE_CHUNKS, PAGE_BYTES // chunk_bytes))
