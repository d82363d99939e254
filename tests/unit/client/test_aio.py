"""The store for asyncio: the same results, many at once, and cancelling that cancels."""

from __future__ import annotations

import asyncio
import inspect
import io
import threading

import pytest

from dsa_zmq.aio import AsyncStore
from dsa_zmq.aio_admin import AsyncAdmin, AsyncPlan, AsyncTask
from dsa_zmq.client.admin import Admin, Plan, Task
from dsa_zmq.client.calls import AskMaster, Cancel, StartDownload, StartUpload
from dsa_zmq.errors import DSAError, Invalid, NotFound
from dsa_zmq.model.limits import MIN_CHUNK_BYTES as CHUNK
from dsa_zmq.model.stat import Stat
from tests.unit.client.world import content


def run(body):
    return asyncio.run(asyncio.wait_for(body, 10))


def test_content_goes_both_ways(store, tmp_path):
    data = content(5 * CHUNK + 1)

    async def body():
        async with AsyncStore(store) as aio:
            assert (await aio.put(io.BytesIO(data), "/x")).size == len(data)
            assert await aio.read_bytes("/x", 5, 50) == data[5:50]
            assert b"".join([piece async for piece in aio.iter_bytes("/x")]) == data
            await aio.get("/x", tmp_path / "out")
            assert await aio.exists("/x")
            with pytest.raises(NotFound):
                await aio.stat("/y")

    run(body())
    assert (tmp_path / "out").read_bytes() == data


def test_many_operations_run_at_once(store):
    async def body():
        async with AsyncStore(store) as aio:
            await asyncio.gather(*(aio.write_bytes(f"/{number}", content(100, number)) for number in range(100)))
            found = await asyncio.gather(*(aio.read_bytes(f"/{number}") for number in range(100)))
            assert found == [content(100, number) for number in range(100)]

    run(body())


def test_files_are_published_at_the_end_and_discarded_after_an_error(store):
    async def fail(aio):
        async with await aio.open("/bad", "wb") as file:
            await file.write(content(3 * CHUNK))
            raise ZeroDivisionError

    async def body():
        async with AsyncStore(store) as aio:
            async with await aio.open("/good", "w") as file:
                await file.write("one\ntwo\n")
            async with await aio.open("/good", "r") as file:
                assert [line async for line in file] == ["one\n", "two\n"]
            async with await aio.open("/good") as file:
                await file.seek(4)
                assert await file.read() == b"two\n"
                assert file.tell() == 8
            with pytest.raises(ZeroDivisionError):
                await fail(aio)
            assert not await aio.exists("/bad")

    run(body())


def hold_back(store, kinds):
    """Calls of these kinds never reach the client's actor; tells when the first one comes."""
    came, call = threading.Event(), store.handle.call

    def keep(wanted):
        if isinstance(wanted, kinds):
            came.set()
        call(wanted) if not isinstance(wanted, kinds) else store.handle.calls.append(wanted)

    store.handle.call = keep
    return came


@pytest.mark.parametrize("operation", ["read", "write", "stat", "iterate", "stream"])
def test_cancelling_ends_the_wait_and_gives_the_transfer_up(store, operation):
    store.write_bytes("/x", content(CHUNK))
    came = hold_back(store, AskMaster | StartDownload | StartUpload)

    async def iterate(aio):
        async for _ in aio.iter_bytes("/x"):
            pass

    async def body():
        async with AsyncStore(store, threads=1) as aio:
            wanted = {
                "read": lambda: aio.read_bytes("/x"),
                "write": lambda: aio.write_bytes("/y", b"1"),
                "stat": lambda: aio.stat("/x"),
                "iterate": lambda: iterate(aio),
                "stream": lambda: aio.put(iter([content(9 * CHUNK)]), "/y"),
            }[operation]
            task = asyncio.create_task(wanted())
            await asyncio.to_thread(came.wait, 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await aio._run(lambda: "the one thread is free again")

    run(body())
    if operation != "stat":
        assert any(isinstance(call, Cancel) for call in store.handle.calls)


def test_closing_is_heard_as_an_error_of_the_store_by_all_who_wait(store):
    async def body():
        aio = AsyncStore(store, threads=1)
        waiting = [asyncio.create_task(aio.write_bytes(f"/{number}", b"x")) for number in range(50)]
        await asyncio.sleep(0)
        await aio.close()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [each for each in ended if not isinstance(each, Stat | DSAError)] == []
        with pytest.raises(Invalid, match="the store is closed"):
            await aio.ls("/")
        await aio.close()

    run(body())


def offered(kind):
    """The public names of a class, with the parameters of those that are called."""
    found = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
    return {
        name: [(each.name, each.kind, each.default) for each in inspect.signature(member).parameters.values()]
        if callable(member)
        else None
        for name, member in found.items()
    }


@pytest.mark.parametrize(("there", "here"), [(Admin, AsyncAdmin), (Plan, AsyncPlan), (Task, AsyncTask)])
def test_all_that_an_admin_can_do_can_be_awaited(there, here):
    wanted = offered(there)
    wanted.pop("ask", None)  # speaks the protocol itself
    given = offered(here)
    assert given.pop("info", None) is None  # an attribute there, a property here
    assert given == wanted
    asks = {name for name, member in vars(here).items() if not name.startswith("_") and callable(member)}
    assert all(inspect.iscoroutinefunction(getattr(here, name)) for name in asks)
