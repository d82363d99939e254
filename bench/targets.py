"""What can be measured: a local DSA cluster of processes, any POSIX directory, any S3 endpoint. One interface for all."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import dsa_zmq
from dsa_zmq.model.limits import CATALOG_COPIES, SEGMENT_BYTES


class Bulk(Protocol):
    """Calls that take many files at once."""

    def write_many(self, items: list[tuple[str, bytes]]) -> None: ...
    def read_many(self, names: list[str]) -> list[bytes]: ...
    def fetch_many(self, names: list[str], folder: Path) -> None: ...


class Target(Protocol):
    """Names are relative, ``/``-separated. Every write returns only when the target calls it durable."""

    name: str
    bulk: Bulk | None  #: None: there are no such calls

    def put(self, source: Path, name: str) -> None: ...
    def get(self, name: str, target: Path) -> None: ...
    def write(self, name: str, data: bytes) -> None: ...
    def read(self, name: str) -> bytes: ...
    def stat(self, name: str) -> int: ...
    def list(self, folder: str) -> int: ...
    def remove(self, folder: str) -> None: ...
    def processes(self) -> dict[str, int]: ...
    def close(self) -> None: ...


class DsaTarget:
    """A cluster of real processes on loopback, data on this machine's disk, times and segments as in life."""

    def __init__(
        self, scratch: Path, nodes: int, redundancy: str, catalog_copies: str = CATALOG_COPIES, speed: float = 1
    ) -> None:
        self.name = f"dsa, {nodes} nodes, {redundancy}, catalog {catalog_copies}"
        self.bulk: Bulk | None = self
        self._stack = ExitStack()
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="cluster-", dir=scratch)))
        self._cluster = self._stack.enter_context(
            dsa_zmq.LocalCluster(
                nodes,
                redundancy,
                processes=True,
                directory=directory,
                segment_bytes=SEGMENT_BYTES,
                speed=speed,
                catalog_copies=catalog_copies,
            )
        )
        self._store = self._stack.enter_context(self._cluster.connect())

    def put(self, source: Path, name: str) -> None:
        self._store.put(source, f"/{name}")

    def get(self, name: str, target: Path) -> None:
        self._store.get(f"/{name}", target)

    def write(self, name: str, data: bytes) -> None:
        self._store.write_bytes(f"/{name}", data)

    def read(self, name: str) -> bytes:
        return self._store.read_bytes(f"/{name}")

    def write_many(self, items: list[tuple[str, bytes]]) -> None:
        _check(self._store.put_many((data, f"/{name}") for name, data in items))

    def read_many(self, names: list[str]) -> list[bytes]:
        contents = [io.BytesIO() for _ in names]
        _check(self._store.get_many((f"/{name}", content) for name, content in zip(names, contents, strict=True)))
        return [content.getvalue() for content in contents]

    def fetch_many(self, names: list[str], folder: Path) -> None:
        _check(self._store.get_many((f"/{name}", folder / name) for name in names))

    def stat(self, name: str) -> int:
        return self._store.stat(f"/{name}").size

    def list(self, folder: str) -> int:
        return sum(1 for _ in self._store.ls(f"/{folder}"))

    def remove(self, folder: str) -> None:
        self._store.rm(f"/{folder}", recursive=True)

    def processes(self) -> dict[str, int]:
        dead = set(self._cluster.ended())
        return {name: pid for name, pid in self._cluster.pids().items() if name not in dead}

    def close(self) -> None:
        self._stack.close()

    def names(self) -> list[str]:
        return list(self._cluster.names)

    def used(self, name: str) -> int:
        """Bytes that the shards of a node take; 0 unless it is up."""
        return sum(node.used for node in self._store.nodes() if (node.name, node.state) == (name, "up"))

    def kill(self, name: str) -> None:
        self._cluster.kill(name)

    def wipe(self, name: str) -> None:
        """Kill a node and start it with an empty disk."""
        self._cluster.wipe(name)


def _check(outcomes: Iterable[object]) -> None:
    """Bulk calls return the errors of single files."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


class PosixTarget:
    """A directory of any mounted file system; writes are temporary file, fsync, rename, as careful programs do."""

    def __init__(self, root: Path) -> None:
        self.name = f"posix {root}"
        self.bulk: Bulk | None = None
        root.mkdir(parents=True, exist_ok=True)
        self._root = Path(tempfile.mkdtemp(prefix="dsa-bench-", dir=root))  # removed at the end: nobody else's

    def _publish(self, temporary: Path, name: str) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, path)

    def put(self, source: Path, name: str) -> None:
        temporary = self._root / f"{name.replace('/', '_')}.tmp"
        shutil.copyfile(source, temporary)
        fd = os.open(temporary, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        self._publish(temporary, name)

    def get(self, name: str, target: Path) -> None:
        shutil.copyfile(self._root / name, target)

    def write(self, name: str, data: bytes) -> None:
        temporary = self._root / f"{name.replace('/', '_')}.tmp"
        with temporary.open("wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
        self._publish(temporary, name)

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def stat(self, name: str) -> int:
        return (self._root / name).stat().st_size

    def list(self, folder: str) -> int:
        with os.scandir(self._root / folder) as entries:
            return sum(1 for entry in entries if entry.stat().st_size >= 0)

    def remove(self, folder: str) -> None:
        shutil.rmtree(self._root / folder, ignore_errors=True)

    def processes(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)


class S3Target:
    """``http://KEY:SECRET@host:port/bucket``; needs boto3. The bucket is made if it is missing."""

    def __init__(self, url: str) -> None:
        import boto3
        from botocore.config import Config

        parts = urlsplit(url)
        self.name = f"s3 {parts.hostname}:{parts.port or ''}"
        self.bulk: Bulk | None = None
        self._bucket = parts.path.strip("/") or "dsa-bench"
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=f"{parts.scheme}://{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}",
            aws_access_key_id=parts.username or "test",
            aws_secret_access_key=parts.password or "test",
            region_name="us-east-1",
            config=Config(max_pool_connections=32, s3={"addressing_style": "path"}),
        )
        names = [bucket["Name"] for bucket in self._client.list_buckets()["Buckets"]]
        if self._bucket not in names:
            self._client.create_bucket(Bucket=self._bucket)

    def put(self, source: Path, name: str) -> None:
        self._client.upload_file(str(source), self._bucket, name)

    def get(self, name: str, target: Path) -> None:
        self._client.download_file(self._bucket, name, str(target))

    def write(self, name: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=name, Body=data)

    def read(self, name: str) -> bytes:
        return bytes(self._client.get_object(Bucket=self._bucket, Key=name)["Body"].read())

    def stat(self, name: str) -> int:
        return int(self._client.head_object(Bucket=self._bucket, Key=name)["ContentLength"])

    def list(self, folder: str) -> int:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{folder}/")
        return sum(len(page.get("Contents", ())) for page in pages)

    def remove(self, folder: str) -> None:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{folder}/")
        for page in pages:
            for item in page.get("Contents", ()):
                self._client.delete_object(Bucket=self._bucket, Key=item["Key"])

    def processes(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self._client.close()
