"""What a program hands in by mistake: one clear error, which says what was given and what is expected."""

from __future__ import annotations

import io
import os

import pytest

from dsa_zmq.errors import Invalid


@pytest.mark.parametrize("swapped", [("/x", b"data"), (b"data", b"/x"), (b"data", None), (io.BytesIO(), ["/x"])])
def test_a_source_and_a_path_that_were_swapped_are_told_apart(store, swapped):
    with pytest.raises(Invalid, match=r"put was given (bytes|None|a list) as the path.*put\(source, "):
        store.put(*swapped)


def test_a_target_and_a_path_that_were_swapped_are_told_apart(store):
    with pytest.raises(Invalid, match=r"get was given a BytesIO as the path.*get\('/in/the/store', target\)"):
        store.get(io.BytesIO(), "/x")


@pytest.mark.parametrize("path", [None, b"/x", 3, ["/x"]])
@pytest.mark.parametrize("call", ["stat", "exists", "ls", "rm", "mkdir", "read_bytes", "open", "glob", "du"])
def test_a_path_that_is_no_text_is_refused_by_every_call(store, call, path):
    with pytest.raises(Invalid, match=f"a path in the store is text, not {type(path).__name__}; give one as in"):
        getattr(store, call)(path)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ([1, 2], "a number is no piece of a file; give bytes"),
        (["ab"], "a str is no piece of a file; give bytes"),
        ([b"ab", None], "None is no piece of a file; give bytes"),
        (5, "a number is nothing that can be put; give a path, a binary file or bytes"),
        (None, "None is nothing that can be put"),
    ],
)
def test_a_source_without_bytes_is_refused_and_leaves_nothing(store, source, told):
    with pytest.raises(Invalid, match=told):
        store.put(source, "/x")
    assert not store.exists("/x")


def test_text_is_not_taken_for_bytes_nor_for_the_name_of_a_file(store, tmp_path):
    (tmp_path / "text").write_bytes(os.urandom(10))
    with pytest.raises(Invalid, match="a str is no piece of a file"):
        store.write_bytes("/x", str(tmp_path / "text"))
    with pytest.raises(Invalid, match="the content is bytes, not text"):
        store.write_text("/x", b"bytes")
    with pytest.raises(Invalid, match="a str is no piece of a file"), store.open("/x", "wb") as file:
        file.write("text")
    assert not store.exists("/x")


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ("ab", "put_many was given a str as one of its pairs; give pairs of (source, path in the store)"),
        (7, "put_many was given a number as one of its pairs"),
        ((b"a",), "put_many was given 1 things as one of its pairs"),
        ((b"a", "/a", "/b"), "put_many was given 3 things as one of its pairs"),
        (("/a", b"a"), "put_many was given bytes as the path in the store of one of its pairs, not text"),
        (([1], "/a"), "a number is no piece of a file"),
    ],
)
def test_a_wrong_pair_is_an_outcome_of_its_own(store, pair, told):
    before, wrong, after = store.put_many([(b"1", "/before"), pair, (b"2", "/after")])
    assert isinstance(wrong, Invalid)
    assert told in str(wrong)
    assert (before.path, after.path) == ("/before", "/after")


@pytest.mark.parametrize("call", ["put_many", "get_many"])
def test_what_is_no_pairs_at_all_is_refused(store, call):
    with pytest.raises(Invalid, match=f"{call} was given a number, not pairs; give pairs of"):
        getattr(store, call)(5)


@pytest.mark.parametrize("target", [None, 5, b"/tmp/x"])
def test_a_target_that_takes_no_bytes_is_refused(store, target):
    store.write_bytes("/x", b"data")
    with pytest.raises(Invalid, match="cannot be the target of /x; give the path of a local file, or a binary file"):
        store.get("/x", target)
    [outcome] = store.get_many([("/x", target)])
    assert isinstance(outcome, Invalid)


@pytest.mark.parametrize(
    "options",
    [{"mode": "0644"}, {"if_version": "1"}, {"mtime_ns": 1.5}, {"redundancy": 2}, {"redundancy": b"copies=2"}],
)
def test_options_of_another_kind_are_refused_before_anything_is_sent(store, options):
    with pytest.raises(Invalid, match=f"{next(iter(options))} is .*, not (a number|text)"):
        store.put(b"data", "/x", **options)
    assert not store.exists("/x")


@pytest.mark.parametrize("bounds", [("a", None), (0, "b"), (1.5, None)])
def test_a_range_without_numbers_is_refused(store, bounds):
    store.write_bytes("/x", b"data")
    with pytest.raises(Invalid, match=r"(start|stop) is a (str|float), not a number"):
        store.read_bytes("/x", *bounds)


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (lambda admin: admin.plan_drain(7), "node is a number, not text"),
        (lambda admin: admin.plan_remove(None), "node is None, not text"),
        (lambda admin: admin.plan_convert("/x", 2), "redundancy is a number, not text"),
        (lambda admin: admin.plan(b"drain"), "kind is bytes, not text"),
        (lambda admin: admin.plan("drain", 7), "subject is a number, not text"),
    ],
)
def test_a_plan_for_what_is_no_text_is_refused_before_anything_is_sent(store, plan, told):
    with pytest.raises(Invalid, match=told):
        plan(store.admin)
