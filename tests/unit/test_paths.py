"""Paths: one spelling each, refused with a message that can be printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.errors import Invalid
from dsa_zmq.model import paths

CHARACTERS = st.characters(exclude_characters="/\0", exclude_categories=["Cs"])
NAMES = st.text(CHARACTERS, min_size=1, max_size=40).filter(lambda name: name not in (".", ".."))


@pytest.mark.parametrize(
    ("given_path", "normal"),
    [
        ("", "/"),
        ("/", "/"),
        ("//", "/"),
        ("a", "/a"),
        ("a/b", "/a/b"),
        ("/a//b/", "/a/b"),
        ("/a b/\n", "/a b/\n"),
        ("/...", "/..."),
        ("/ü", "/ü"),
        ("/u\u0308", "/u\u0308"),
    ],
)
def test_a_path_has_one_spelling(given_path: str, normal: str) -> None:
    assert paths.normalize(given_path) == normal


@given(st.lists(NAMES, max_size=5), st.integers(1, 3), st.booleans())
def test_extra_slashes_change_nothing(names: list[str], slashes: int, trailing: bool) -> None:
    written = ("/" * slashes).join(names) + "/" * (slashes * trailing)
    normal = paths.normalize(written)
    assert normal == "/" + "/".join(names)
    assert paths.normalize(normal) == normal


@given(st.lists(NAMES, max_size=5))
def test_parts_and_join_are_inverse(names: list[str]) -> None:
    assert paths.parts(paths.join(*names)) == tuple(names)


@given(st.lists(NAMES, min_size=1, max_size=5))
def test_parent_and_name_make_the_path_again(names: list[str]) -> None:
    path = paths.join(*names)
    assert paths.name(path) == names[-1]
    assert paths.join(paths.parent(path), paths.name(path)) == path


def test_the_root_is_its_own_parent_and_has_no_name() -> None:
    assert paths.parent("/") == "/"
    assert paths.name("/") == ""
    assert paths.parts("") == ()


def test_a_leading_slash_does_not_restart_a_join() -> None:
    assert paths.join("/a", "/b", "c/d") == "/a/b/c/d"
    assert paths.join() == "/"


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        ("/a/\0", "NUL"),
        ("/a/./b", "cannot be a name"),
        ("..", "cannot be a name"),
        ("/a/../b", "cannot be a name"),
        ("/" + "n" * 256, "256 bytes"),
        ("/" + "ü" * 128, "256 bytes"),
        (("/" + "n" * 240) * 17, "4,097 bytes"),
        ("/\udc80", "not valid Unicode"),
        ("/ok/\ud83d", "not valid Unicode"),
    ],
)
def test_a_bad_path_is_refused_with_cause_and_remedy(bad: str, cause: str) -> None:
    with pytest.raises(Invalid, match=cause) as refused:
        paths.normalize(bad)
    assert refused.value.remedy
    assert str(refused.value).isprintable()
    str(refused.value).encode()
    assert len(str(refused.value)) < 500


def test_the_longest_name_and_path_are_accepted() -> None:
    longest = ("/" + "n" * 255) * 16
    assert len(longest) == 4096
    assert paths.normalize(longest) == longest


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "a\0", "\udfff", "x" * 256])
def test_a_bad_name_is_refused(bad: str) -> None:
    with pytest.raises(Invalid):
        paths.validate_name(bad)


@given(st.text(st.characters(codec=None), max_size=300))
def test_any_text_is_either_normalized_or_invalid(text: str) -> None:
    try:
        normal, refusal = paths.normalize(text), ""
    except Invalid as error:
        normal, refusal = "/", str(error)
    assert refusal.isprintable()
    refusal.encode()
    assert paths.normalize(normal) == normal
    assert normal.startswith("/")
    assert len(normal.encode()) <= 4096
