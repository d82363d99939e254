"""The previous build, as it is kept for these tests, is the one that was released."""

from __future__ import annotations

import lzma
import subprocess

from tests.golden.make import PREVIOUS, ROOT, packages
from tests.upgrade.builds import ARCHIVE, PREVIOUS_FORMAT, PREVIOUS_PROTOCOL, Build


def git(*line: str, given: bytes = b"") -> tuple[int, bytes]:
    ended = subprocess.run(["git", *line], cwd=ROOT, input=given, capture_output=True, check=False)
    return ended.returncode, ended.stdout.strip()


def test_the_archive_is_that_of_the_commit_and_the_commit_that_of_the_tag() -> None:
    """A shallow clone has neither; then there is only what the archive says of itself."""
    archive = lzma.decompress(ARCHIVE.read_bytes())
    assert git("get-tar-commit-id", given=archive) == (0, PREVIOUS.encode())
    tagged, commit = git("rev-parse", "--verify", "--quiet", f"format-{PREVIOUS_FORMAT}^{{commit}}")
    assert tagged != 0 or commit == PREVIOUS.encode()
    if git("cat-file", "-e", f"{PREVIOUS}^{{tree}}")[0] == 0:
        assert packages(PREVIOUS) == archive


def test_the_previous_build_runs_with_its_own_formats(old: Build) -> None:
    program = (
        "from dsa_zmq.master.catalog.schema import NEWEST_FORMAT; from dsa_zmq.protocol.messages import PROTOCOL_VERSION;"
        "print(NEWEST_FORMAT, PROTOCOL_VERSION)"
    )
    assert old.run("-c", program).stdout.split() == [str(PREVIOUS_FORMAT), str(PREVIOUS_PROTOCOL)]
    assert old.dsa("--version").stdout.startswith("dsa ")
