"""The tree of names, now and as of earlier, against a model: nested dictionaries, one operation after the other."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa_zmq.protocol.operations import Copy, ListDirectory, MakeDirectory, Move, Remove, Stat
from dsa_zmq.protocol.values import Failure


class Refused(Exception):
    """Carries the code of the failure that is expected."""


@dataclass
class File:
    size: int
    version: int


class Tree:
    """What the catalog should do, in the plainest way."""

    def __init__(self) -> None:
        self.root: dict = {}

    def find(self, path):
        """(parent, last name, what is there or None). Raises what a look-up of the parent raises."""
        names = [name for name in path.split("/") if name]
        at = self.root
        for name in names[:-1]:
            if isinstance(at, File):
                raise Refused("not-a-directory")
            if name not in at:
                raise Refused("not-found")
            at = at[name]
        if isinstance(at, File):
            raise Refused("not-a-directory")
        return at, names[-1], at.get(names[-1])

    def existing(self, path):
        parent, name, there = self.find(path)
        if there is None:
            raise Refused("not-found")
        return parent, name, there

    def target(self, path):
        """As find, with the directories on the way made. Only called when nothing else can fail any more."""
        at = self.root
        names = [name for name in path.split("/") if name]
        for name in names[:-1]:
            at = at.setdefault(name, {})
        return at, names[-1]

    def look(self, path):
        """What is there; None if it is missing, also by missing parents."""
        try:
            return self.find(path)[2]
        except Refused as error:
            if error.args == ("not-found",):
                return None
            raise

    def parents_there(self, path):
        try:
            self.find(path)
        except Refused as error:
            return error.args != ("not-found",)
        return True

    def stat(self, path):
        return self.existing(path)[2]

    def mkdir(self, path, parents, exist_ok):
        there = self.look(path)
        if isinstance(there, dict) and exist_ok:
            return there
        if there is not None:
            raise Refused("already-exists")
        if not parents and not self.parents_there(path):
            raise Refused("not-found")
        at, name = self.target(path)
        at[name] = {}
        return at[name]

    def commit(self, path, size, if_absent, if_version):
        there = self.look(path)
        if isinstance(there, dict):
            raise Refused("is-a-directory")
        if there is None and if_version:
            raise Refused("conflict")
        if there is not None and if_absent:
            raise Refused("already-exists")
        if there is not None and if_version and there.version != if_version:
            raise Refused("conflict")
        at, name = self.target(path)
        at[name] = File(size, there.version + 1 if there else 1)
        return at[name]

    def remove(self, path, recursive):
        parent, name, there = self.existing(path)
        if isinstance(there, dict) and there and not recursive:
            raise Refused("not-empty")
        del parent[name]

    def move(self, source, target, replace, parents):
        parent, name, thing = self.existing(source)
        if source == target:
            return thing
        if target.startswith(source + "/"):
            raise Refused("conflict" if isinstance(thing, dict) else "not-a-directory")
        there = self.look(target)
        if isinstance(there, dict):
            raise Refused("is-a-directory" if isinstance(thing, File) else "already-exists")
        if there is not None and not replace:
            raise Refused("already-exists")
        if there is not None and isinstance(thing, dict):
            raise Refused("not-a-directory")
        if there is None and not parents and not self.parents_there(target):
            raise Refused("not-found")
        del parent[name]
        at, last = self.target(target)
        at[last] = thing
        return thing

    def copy(self, source, target, replace, parents):
        thing = self.existing(source)[2]
        if isinstance(thing, dict):
            raise Refused("is-a-directory")
        there = self.look(target)
        if isinstance(there, dict):
            raise Refused("is-a-directory")
        if there is not None and not replace:
            raise Refused("already-exists")
        if source == target:
            return thing
        if there is None and not parents and not self.parents_there(target):
            raise Refused("not-found")
        at, last = self.target(target)
        at[last] = File(thing.size, there.version + 1 if there else 1)
        return at[last]


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))
FLAGS = st.booleans()
STEPS = st.one_of(
    st.tuples(st.just("commit"), PATHS, st.sampled_from([0, 1, 5000]), FLAGS, st.sampled_from([0, 0, 1, 2])),
    st.tuples(st.just("mkdir"), PATHS, FLAGS, FLAGS),
    st.tuples(st.just("remove"), PATHS, FLAGS),
    st.tuples(st.just("move"), PATHS, PATHS, FLAGS, FLAGS),
    st.tuples(st.just("copy"), PATHS, PATHS, FLAGS, FLAGS),
    st.tuples(st.just("stat"), PATHS),
    st.tuples(st.just("collect")),
    st.tuples(st.just("reopen")),
)


def operation(kit, step):
    kind, *values = step
    if kind == "commit":
        path, size, if_absent, if_version = values
        return kit.commit(path, size, if_absent=if_absent, if_version=if_version)
    kinds = {"mkdir": MakeDirectory, "remove": Remove, "move": Move, "copy": Copy, "stat": Stat}
    return kinds[kind](*values)


def expect(tree, step):
    """The kind of thing that the model answers, or the code of its failure."""
    kind, *values = step
    try:
        answer = getattr(tree, kind)(*values)
    except Refused as error:
        return error.args[0]
    return answer if not isinstance(answer, dict) else "dir"


def seen(result):
    """The answer of the catalog, in the same words."""
    if isinstance(result, Failure):
        return result.code
    if not hasattr(result, "attributes"):
        return None
    shown = result.attributes
    return "dir" if shown.kind == "dir" else File(shown.size, shown.version)


def tree_of(kit, path="/", seq=0):
    """The whole tree, now or as of a sequence, by listings of two entries."""
    found, after, more = {}, "", True
    while more:
        page = kit.good(ListDirectory(path, after, 2, seq))
        more = page.more
        for entry in page.entries:
            after = entry.name
            inside = f"{path.rstrip('/')}/{entry.name}"
            shown = entry.attributes
            found[entry.name] = tree_of(kit, inside, seq) if shown.kind == "dir" else File(shown.size, shown.version)
    return found


@pytest.mark.slow
@given(st.lists(st.lists(STEPS, min_size=1, max_size=6), max_size=8))
def test_the_tree_is_what_the_model_says_after_every_batch(new_kit, batches):
    kit, tree = new_kit(nodes=2), Tree()
    moments = {}  # sequence -> the tree as it was then
    for batch in batches:
        for kind in ("collect", "reopen"):
            if any(step[0] == kind for step in batch):
                getattr(kit, kind)()
        steps = [step for step in batch if step[0] not in ("collect", "reopen")]
        results = kit.run(*[kit.request(operation(kit, step)) for step in steps])
        assert [seen(result) for result in results] == [expect(tree, step) for step in steps]
        assert tree_of(kit) == tree.root
        kit.audit()
        moments[kit.number("seq")] = deepcopy(tree.root)
        check_moments(kit, moments)
    kit.collect(horizon=kit.new_id())
    assert tree_of(kit) == tree.root
    kept = [row[0] for row in kit.dump()["inodes"]]
    assert len(kept) == 1 + count(tree.root)
    assert kit.dump()["dead"] == kit.dump()["versions"] == []
    check_moments(kit, moments)


def check_moments(kit, moments):
    """What each sequence showed it still shows, or says that it cannot."""
    for seq, root in moments.items():
        if seq >= kit.number("purged_seq"):
            assert tree_of(kit, seq=seq) == root
        else:
            assert kit.bad(ListDirectory("/", seq=seq)) == "conflict"


def count(tree):
    return sum(1 + (count(thing) if isinstance(thing, dict) else 0) for thing in tree.values())
