"""Makes what earlier builds have left for us: what they wrote on disks, and the previous build itself, so that it can run.

``python tests/golden/make.py`` in a clone with the whole history writes, beside this file,

* ``build_format2.tar.xz``: the packages of the last build of catalog format 2 and protocol 1, without what no server,
  client or command of it imports. The same bytes whenever it is made.
* ``store_formatN.tar.xz`` with ``store_formatN.json``: the directories of a master and four nodes as the last build of
  catalog format N left them (see write_store.py), and what they store. Ids and names of segments are new each time.

A format that is released gets a store here, and the build before it takes the place of ``build_format2``.
"""

from __future__ import annotations

import io
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PREVIOUS = "f876676eac6a01869ad2835d2679d930993e1aae"  #: tag format-2
BUILDS = {1: "981aef1d747c91c01179331433348657b9683484", 2: PREVIOUS}  #: the last commit of each catalog format
WITH_CODES = (2,)  #: formats whose builds knew erasure codes
PACKAGES = ("actors", "dsa_zmq")
UNUSED = ("actors/sim", "actors/testing", "dsa_zmq/sim")  #: of the previous build: for tests and simulations only
NOT_KEPT = ("run", "lock")  #: of a store: logs and ready files, and whose lock it was


def packages(commit: str) -> bytes:
    """The tar archive of a commit's packages; its header names the commit."""
    left_out = [f":(exclude){path}" for path in UNUSED]
    command = ["git", "-c", "tar.umask=0022", "archive", "--format=tar", commit, "--", *PACKAGES, *left_out]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout


def unpack(data: bytes, directory: Path) -> None:
    """Write a tar archive's files into a directory, which is made."""
    directory.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(directory, filter="data")


def compressed(data: bytes) -> bytes:
    """As small as it gets."""
    return lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)


def _store(number: int, scratch: Path) -> None:
    build, made = scratch / f"build-{number}", scratch / f"made-{number}"
    unpack(packages(BUILDS[number]), build)
    made.mkdir()
    command = [sys.executable, str(HERE / "write_store.py"), str(made)]
    codes = ["--codes"] if number in WITH_CODES else []
    subprocess.run([*command, *codes], cwd=scratch, env={**os.environ, "PYTHONPATH": str(build)}, check=True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted((made / "cluster").rglob("*")):
            name = path.relative_to(made / "cluster")
            if not set(NOT_KEPT) & set(name.parts):
                archive.add(path, str(name), recursive=False, filter=_anonymous)
    (HERE / f"store_format{number}.tar.xz").write_bytes(compressed(packed.getvalue()))
    (HERE / f"store_format{number}.json").write_bytes((made / "stored.json").read_bytes())


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    return info


def main() -> None:
    (HERE / "build_format2.tar.xz").write_bytes(compressed(packages(PREVIOUS)))
    with tempfile.TemporaryDirectory() as scratch:
        for number in BUILDS:
            _store(number, Path(scratch))


if __name__ == "__main__":
    main()
