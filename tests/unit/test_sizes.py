"""Sizes, rates and durations as people write and read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.errors import Invalid
from dsa_zmq.model.sizes import counted, format_duration, format_rate, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("500GB", 500 * 10**9),
        ("500GiB", 500 * 2**30),
        ("1.5TB", 1_500_000_000_000),
        ("0.1GB", 100_000_000),
        ("5.1 TB", 5_100_000_000_000),
        (" 64mib ", 64 << 20),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("7PB", 7 * 10**15),
        ("7EiB", 7 << 60),
        ("1.0000001KiB", 1024),
    ],
)
def test_sizes_are_read_exactly(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "size"), [("80%", 799), ("100%", 999), ("0%", 0), ("12.5 %", 124)])
def test_a_share_is_of_the_whole_rounded_down(text: str, size: int) -> None:
    assert parse_size(text, whole=999) == size


@pytest.mark.parametrize(
    "text",
    ["", "GB", "-1", "+1", "1e9", "500G", "500XB", "1,000", "1.GB", ".5GB", "0.5", "0.5B", "1 2", "٣GB", "nan", "inf",
     "9" * 30, "99EB", "101%", "%", "1%%", "5\x00GB", "x" * 10_000],
)  # fmt: skip
def test_anything_else_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_size(text, whole=1000)
    assert refused.value.remedy
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(Invalid, match="share"):
        parse_size("80%")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_049, "1.0 kB"),
        (1_050, "1.1 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (1 << 20, "1.0 MB"),
        (5_100_000_000_000, "5.1 TB"),
        (10**24, "1000000.0 EB"),
        (-1500, "-1.5 kB"),
    ],
)
def test_sizes_are_shown_in_decimal_units(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, (1 << 63) - 10**18))
def test_a_shown_size_reads_back_within_its_rounding(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= max(0, size // 20)


def test_rates() -> None:
    assert format_rate(82_100_000.0) == "82.1 MB/s"
    assert format_rate(0.0) == "0 B/s"
    assert format_rate(math.inf) == "unknown"
    assert format_rate(math.nan) == "unknown"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (86_399, "1 d 0 h"),
        (86_400 * 3 + 3600 * 4, "3 d 4 h"),
        (-1, "unknown"),
        (math.inf, "unknown"),
        (math.nan, "unknown"),
    ],
)
def test_durations_use_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (2451, "2,451 files")])
def test_one_thing_is_not_several(count: int, text: str) -> None:
    assert counted(count, "file") == text
