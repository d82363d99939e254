"""Errors: one tree, caught by the builtins that people know, the same on both sides of the wire."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle

import pytest

from dsa_zmq import errors
from dsa_zmq.errors import BY_CODE, DSAError, from_code

TREE = sorted(
    (cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, DSAError)),
    key=lambda cls: cls.__name__,
)
BUILTINS: dict[str, tuple[type[BaseException], int]] = {
    "NotFound": (FileNotFoundError, errno.ENOENT),
    "AlreadyExists": (FileExistsError, errno.EEXIST),
    "IsADirectory": (IsADirectoryError, errno.EISDIR),
    "NotADirectory": (NotADirectoryError, errno.ENOTDIR),
    "NotEmpty": (OSError, errno.ENOTEMPTY),
    "Denied": (PermissionError, errno.EACCES),
    "Invalid": (ValueError, 0),
    "ConfigError": (ValueError, 0),
    "NoSpace": (OSError, errno.ENOSPC),
    "TooFewNodes": (OSError, errno.ENOSPC),
    "Corrupt": (OSError, errno.EIO),
    "LocalError": (OSError, errno.EIO),
    "Unavailable": (ConnectionError, errno.ECONNREFUSED),
    "Overloaded": (ConnectionError, errno.ECONNREFUSED),
    "OutcomeUnknown": (ConnectionError, errno.ECONNREFUSED),
    "Timeout": (TimeoutError, errno.ETIMEDOUT),
}
EXIT_STATUSES = {
    "DSAError": 1, "LocalError": 1, "Invalid": 2, "ConfigError": 2, "Incompatible": 2, "NotFound": 3, "AlreadyExists": 4,
    "IsADirectory": 4, "NotADirectory": 4, "NotEmpty": 4, "Conflict": 4, "Outdated": 4, "Denied": 5, "NoSpace": 6,
    "TooFewNodes": 6, "Unavailable": 7, "Overloaded": 7, "Timeout": 7, "OutcomeUnknown": 7, "Corrupt": 8,
    "InternalError": 70,
}  # fmt: skip


def made(cls: type[DSAError]) -> DSAError:
    return cls("no such thing", "look elsewhere", "/a/b")


@pytest.mark.parametrize("cls", TREE)
def test_an_error_survives_pickling_and_copying(cls: type[DSAError]) -> None:
    for again in (pickle.loads(pickle.dumps(made(cls))), copy.copy(made(cls)), copy.deepcopy(made(cls))):
        assert type(again) is cls
        assert (again.message, again.remedy, again.path) == ("no such thing", "look elsewhere", "/a/b")
        assert str(again) == str(made(cls)) == "no such thing; look elsewhere"
        assert getattr(again, "errno", None) == getattr(made(cls), "errno", None)


@pytest.mark.parametrize("name", sorted(BUILTINS))
def test_an_error_is_what_people_catch(name: str) -> None:
    builtin, number = BUILTINS[name]
    error = made(getattr(errors, name))
    assert isinstance(error, builtin)
    if number:
        assert isinstance(error, OSError)
        assert (error.errno, error.strerror, error.filename) == (number, "no such thing", "/a/b")


def test_a_message_without_remedy_stands_alone() -> None:
    assert str(errors.Conflict("changed meanwhile")) == "changed meanwhile"


def test_every_error_has_a_code_of_its_own_and_comes_back_from_it() -> None:
    assert len({cls.code for cls in TREE}) == len(TREE) == len(BY_CODE)
    for cls in TREE:
        error = from_code(cls.code, "m", "r", "/p")
        assert type(error) is cls
        assert (error.message, error.remedy, error.path) == ("m", "r", "/p")


def test_a_code_from_the_future_is_a_plain_error() -> None:
    error = from_code("invented-later", "m")
    assert type(error) is DSAError
    assert str(error) == "m"


def test_exit_statuses_are_as_documented() -> None:
    assert {cls.__name__: cls.exit_status for cls in TREE} == EXIT_STATUSES


def test_only_errors_that_may_have_had_their_effect_are_indefinite() -> None:
    expected = {"Unavailable", "Timeout", "OutcomeUnknown", "InternalError"}
    assert {cls.__name__ for cls in TREE if cls.indefinite} == expected
