"""Paths inside the store: absolute, ``/``-separated, UTF-8 as given, with no ``.`` or ``..`` to resolve.

A path names the same thing for everybody at every moment, so nothing relative exists here. Names are compared byte by
byte: ``é`` written in two Unicode forms is two names, as on a Linux disk.
"""

from __future__ import annotations

from dsa_zmq.errors import Invalid
from dsa_zmq.model.limits import NAME_BYTES, PATH_BYTES

ROOT = "/"
_SHOWN_CHARS = 60  #: of a refused path in a message: enough to recognise it


def normalize(path: str) -> str:
    """``path`` as ``/a/b``: ``a/b``, ``/a//b/`` and ``/a/b`` are the same; ``""`` and ``/`` are the root.

    Raises :class:`Invalid` for a NUL character, a name ``.`` or ``..``, a name over 255 bytes, a path over 4,096 bytes, or
    text that is not Unicode (lone surrogates, as Python makes of undecodable file names), or what is no text at all.
    """
    _check_text(path)
    # Nearly all paths are plain and normal already; every client and the master look at each one. A name in a text of at
    # most 255 ASCII characters cannot be too long, and "." and ".." come only after a slash.
    if (
        path.startswith("/")
        and len(path) <= NAME_BYTES
        and path.isascii()
        and not path.endswith("/")
        and "//" not in path
        and "/." not in path
        and "\0" not in path
    ):
        return path
    return ROOT + "/".join(parts(path))


def _check_text(path: object) -> None:
    if not isinstance(path, str):
        raise Invalid(f"a path in the store is text, not {type(path).__name__}", "give one as in '/data/set.csv'")


def validate_name(name: str) -> None:
    """Raise :class:`Invalid` unless ``name`` can be one component of a path."""
    if name in ("", ".", ".."):
        raise Invalid(f"{name!r} cannot be a name", "give the whole path from the root, as in /data/set.csv")
    if "\0" in name:
        raise Invalid(f"name {_shown(name)} contains a NUL character", "remove it")
    if "/" in name:
        raise Invalid(f"name {_shown(name)} contains a slash", "give one name, not a path")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise Invalid(
            f"name {_shown(name)} is not valid Unicode", "rename the file so that its name is UTF-8"
        ) from None
    if size > NAME_BYTES:
        raise Invalid(f"name {_shown(name)} has {size:,} bytes, more than {NAME_BYTES}", "use a shorter name")


def parts(path: str) -> tuple[str, ...]:
    """The names along ``path``, from the root; ``()`` for the root itself. Raises as :func:`normalize` does."""
    _check_text(path)
    names = tuple([name for name in path.split("/") if name])
    # Nearly all paths are short and plain: then neither a name nor the whole is too long, or not Unicode.
    if len(path) > NAME_BYTES or not path.isascii() or "\0" in path or "." in names or ".." in names:
        for name in names:
            validate_name(name)
        normal = ROOT + "/".join(names)
        size = len(normal.encode())
        if size > PATH_BYTES:
            raise Invalid(
                f"path {_shown(normal)} has {size:,} bytes, more than {PATH_BYTES:,}",
                "use shorter names or fewer directories",
            )
    return names


def join(*parts: str) -> str:
    """Paths put behind one another: ``join("/a", "b/c")`` is ``/a/b/c``. A leading slash starts nothing anew."""
    return normalize("/".join(parts))


def parent(path: str) -> str:
    """The directory that holds ``path``; the root is its own."""
    return normalize(path).rpartition("/")[0] or ROOT


def name(path: str) -> str:
    """The last name of ``path``; ``""`` for the root."""
    return normalize(path).rpartition("/")[2]


def _shown(text: str) -> str:
    """Printable on any terminal: control characters and surrogates escaped, long ones cut."""
    return repr(text) if len(text) <= _SHOWN_CHARS else repr(text[:_SHOWN_CHARS]) + "..."
