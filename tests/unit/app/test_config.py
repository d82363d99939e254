"""Options: command line before file before default, and errors that name file, line, key and what belongs there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dsa_zmq.config import LocalOptions, MasterOptions, NodeOptions, Options, options, read_config
from dsa_zmq.errors import ConfigError, Invalid
from dsa_zmq.model.addresses import advertised_endpoint, connect_host, listen_host, master_endpoint
from dsa_zmq.model.pace import CarePace, HealingPace


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# --- TOML ---------------------------------------------------------------------------------------------------------------


def test_the_command_line_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = write(tmp_path / "dsa.toml", '[master]\ndir = "data"\nport = 8000\nplacement = "chained"\n')
    got = options(MasterOptions, {"port": 9000, "dir": None, "insecure": None}, file)
    assert (got.port, got.placement, got.bind) == (9000, "chained", "127.0.0.1")
    assert got.dir == str(tmp_path / "data")  # relative to the file, wherever the server is started
    assert got.ports() == (9000, 9001, 9002)


def test_one_file_serves_all_kinds(tmp_path: Path) -> None:
    file = write(
        tmp_path / "dsa.toml",
        '[master]\ndir = "/m"\n[node]\npath = "/n"\ncapacity = "80%"\nreserve = 0\n[cluster]\nnodes = 3\n',
    )
    assert options(MasterOptions, {}, file).dir == "/m"
    assert options(NodeOptions, {}, file).capacity == "80%"
    assert options(LocalOptions, {}, file).nodes == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[node]\npath = "/n"\nport = "x"\n', r"dsa\.toml, line 3: port: expected int, got str"),
        ('[node]\npath = "/n"\n\ncapazity = 5\n', r"dsa\.toml, line 4: \[node\] has no key 'capazity'"),
        ("[nodes]\n", r"dsa\.toml, line 1: unknown section 'nodes'"),
        ("node = 3\n", r"dsa\.toml, line 1: 'node' is not a section"),
        ("[node]\npath = \n", r"dsa\.toml is not valid TOML: .*line 2"),
        ('[master]\nport = 1.5\n[node]\npath = "/n"\n', r"dsa\.toml, line 2: port: expected int, got float"),
        ("[master.healing]\n\nhaste = 3\n", r"dsa\.toml, line 3: \[master\.healing\]: there is no 'haste'"),
        ('[master]\ndir = "/d"\n[master.healing]\nstorm_hold_s = 0\n', r"line 4: .* must be more than 0"),
        ('[node]\npath = "/n"\n[node.care]\nscrub_bytes_s = "fast"\n', r"line 4: .*scrub_bytes_s: 'fast' is not a"),
        ("[node]\ncare = 5\n", r"line 2: care: expected object"),
        ("[master.healing]\nprobe_s = inf\n", r"line 2: .*probe_s: 'inf' is not a number"),
        ("[master.catalog]\nlevel = 3\n", r"line 2: \[master\.catalog\]: there is no 'level'"),
        ('[master.catalog]\ncopies = "yes"\n', r"line 2: .*no way to keep copies"),
        ("[master.catalog]\nlag_s = 0\n", r"line 2: .*lag_s must be more than 0"),
        ("[master.healing]\nprobe_s = nan\n", r"line 2: .*probe_s: 'nan' is not a number"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    file = write(tmp_path / "dsa.toml", text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_config(file, NodeOptions)
    assert caught.value.remedy


def test_an_unknown_key_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    file = write(tmp_path / "dsa.toml", "[node]\ncapazity = 5\n")
    with pytest.raises(ConfigError) as caught:
        read_config(file, NodeOptions)
    assert "capacity" in caught.value.remedy


def test_files_that_are_no_configuration_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_config(tmp_path / "missing.toml", NodeOptions)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_config(tmp_path, NodeOptions)
    (tmp_path / "binary.toml").write_bytes(b"[node]\n\xff\xfe")
    with pytest.raises(ConfigError, match="line 2: bytes that are not UTF-8"):
        read_config(tmp_path / "binary.toml", NodeOptions)
    (tmp_path / "huge.toml").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="over 1 MiB"):
        read_config(tmp_path / "huge.toml", NodeOptions)


@pytest.mark.parametrize("kind", [MasterOptions, NodeOptions, LocalOptions])
def test_every_option_can_be_given_in_a_file(tmp_path: Path, kind: type[Options]) -> None:
    section = {MasterOptions: "master", NodeOptions: "node", LocalOptions: "cluster"}[kind]
    known = {"dir": "/d", "path": "/d", "bind": "127.0.0.1", "advertise": "h:1", "redundancy": "copies=2"}
    known |= {"catalog_copies": "async", "catalog_history": "2h"}
    known |= {"placement": "chained", "master": "h", "capacity": "1GB", "reserve": "1GB", "nodes": 4}
    known |= {"catalog_copies": "async", "catalog_history": "2h"}
    known |= {"insecure": True, "metrics": 0, "heartbeat_s": 1.0, "suspect_s": 2.0, "down_s": 3.0}
    lines = [f"[{section}]"]
    for name in kind.__struct_fields__:
        if name in ("healing", "care", "catalog"):  # sections of their own
            continue
        value = known.get(name, 7 if "port" in name or name.endswith(("_s", "_bytes")) else "x")
        lines.append(f"{name} = {msgspec.json.encode(value).decode()}")
    got = options(kind, {}, write(tmp_path / "all.toml", "\n".join(lines)))
    assert got.redundancy == "copies=2" if hasattr(got, "redundancy") else True


def test_times_and_limits_of_healing_are_those_of_the_file_and_else_go_with_the_heartbeats(tmp_path: Path) -> None:
    text = '[master]\ndir = "/d"\nheartbeat_s = 0.5\n[master.healing]\nstorm_hold_s = 7\nnode_bytes_s = "50MB"\n'
    got = options(MasterOptions, {}, write(tmp_path / "dsa.toml", text)).pace()
    assert (got.storm_hold_s, got.node_bytes_s) == (7.0, 50_000_000)
    assert got.degraded_delay_s == HealingPace().degraded_delay_s / 2
    assert got.move_bytes == HealingPace().move_bytes


def test_how_the_catalog_is_kept_is_as_the_file_and_first_the_line_say(tmp_path: Path) -> None:
    text = '[master]\ndir = "/d"\n[master.catalog]\ncopies = "async"\nlag_s = 0.5\nhistory = "2d"\n'
    file = write(tmp_path / "dsa.toml", text)
    got = options(MasterOptions, {}, file).care()
    assert (got.copies, got.lag_s, got.history, got.unprotected_after_s) == ("async", 0.5, 172_800.0, 5.0)
    got = options(MasterOptions, {"catalog_copies": "off", "catalog_history": "15 min"}, file).care()
    assert (got.copies, got.lag_s, got.history) == ("off", 0.5, 900.0)
    assert options(LocalOptions, {"catalog_copies": "async"}).care().copies == "async"


@pytest.mark.parametrize("option", [{"catalog_copies": "always"}, {"catalog_history": "an hour"}])
@pytest.mark.parametrize("kind", [MasterOptions, LocalOptions])
def test_nonsense_about_the_catalog_is_refused(kind: type[Options], option: dict[str, str]) -> None:
    with pytest.raises(Invalid, match=r"no way to keep copies|is not a time"):
        options(kind, {"dir": "/d", **option})


def test_how_a_node_looks_after_its_disk_is_as_the_file_says(tmp_path: Path) -> None:
    text = '[node]\npath = "/n"\n[node.care]\nscrub_every_s = 3600\ncompact_bytes_s = 1000000\n'
    got = options(NodeOptions, {}, write(tmp_path / "dsa.toml", text)).pace()
    assert got == dataclasses.replace(CarePace(), scrub_every_s=3600.0, compact_bytes_s=1_000_000)


# --- the classic four lines ---------------------------------------------------------------------------------------------


def test_the_classic_file_gives_master_port_capacity_and_path(tmp_path: Path) -> None:
    file = write(tmp_path / "config.dsa", "\ufeff  10.0.0.7 \r\n7700\r\n 500000000000\r\n\r\nstorage/here \r\n")
    got = options(NodeOptions, {"insecure": True}, file)
    assert got.master == "tcp://10.0.0.7:7700"
    assert got.capacity == 500_000_000_000
    assert got.path == str(tmp_path / "storage/here")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("localhost\nseven\n1000\n/n\n", r"config\.dsa, line 2: port_of_welcoming_socket: 'seven' is not a port"),
        ("localhost\n70000\n1000\n/n\n", r"line 2: port_of_welcoming_socket: '70000' is not a port"),
        ("localhost\n7700\nmuch\n/n\n", r"line 3: storage_space_in_bytes: 'much' is not a size"),
        ("localhost\n7700\n0\n/n\n", r"line 3: storage_space_in_bytes: '0' is not a size"),
        ("local host\n7700\n1000\n/n\n", r"line 1: address_of_master: "),
        ("localhost:7700\n7700\n1000\n/n\n", r"line 1: address_of_master: .*more than a host"),
        ("localhost\n7700\n1000\n", r"line 4: path/to/local/storage/space is missing"),
        ("", r"line 1: address_of_master is missing"),
        ("localhost\n7700\n1000\n/n\nmore\n", r"line 5: a fifth line"),
    ],
)
def test_a_mistake_in_a_classic_file_names_line_and_what_belongs_there(
    tmp_path: Path, text: str, complaint: str
) -> None:
    file = write(tmp_path / "config.dsa", text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        read_config(file, NodeOptions)
    assert caught.value.remedy
    assert caught.value.path == str(file)


def test_a_master_is_not_configured_by_a_classic_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a node's configuration"):
        read_config(write(tmp_path / "config.dsa", "h\n1\n1\n/n\n"), MasterOptions)


# --- values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "given", "complaint"),
    [
        (MasterOptions, {}, "--dir is missing"),
        (NodeOptions, {}, "--path is missing"),
        (MasterOptions, {"dir": "/m", "bind": "0.0.0.0"}, "listening at 0.0.0.0 would let every machine"),
        (NodeOptions, {"path": "/n", "bind": "192.168.0.1"}, "listening at 192.168.0.1 would let every machine"),
        (NodeOptions, {"path": "/n", "master": "10.0.0.1"}, "listening at 0.0.0.0 would let every machine"),
        (MasterOptions, {"dir": "/m", "redundancy": "copies=0"}, "'copies=0' is not a redundancy"),
        (MasterOptions, {"dir": "/m", "placement": "nowhere"}, "'nowhere' is not a placement"),
        (MasterOptions, {"dir": "/m", "heartbeat_s": 9.0}, "do not fit together"),
        (MasterOptions, {"dir": "/m", "port": 65_535}, "hints_port 65536 is not a port"),
        (MasterOptions, {"dir": "/m", "bind": "no such host"}, "host"),
        (NodeOptions, {"path": "/n", "capacity": "lots"}, "is not a size"),
        (NodeOptions, {"path": "/n", "capacity": "0"}, "capacity 0 leaves no room"),
        (NodeOptions, {"path": "/n", "name": "a/b"}, "'a/b' is not a node name"),
        (NodeOptions, {"path": "/n", "advertise": "0.0.0.0:1"}, "no host to connect to"),
        (LocalOptions, {"nodes": 1}, r"copies=2 needs 2 nodes, and there would be 1"),
        (LocalOptions, {"nodes": 0}, "0 nodes on one machine make no sense"),
    ],
)
def test_values_that_make_no_sense_are_refused(kind: type[Options], given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint) as caught:
        options(kind, given)
    assert caught.value.remedy


def test_insecure_allows_other_machines() -> None:
    assert options(MasterOptions, {"dir": "/m", "bind": "0.0.0.0", "insecure": True}).bind == "0.0.0.0"
    assert options(NodeOptions, {"path": "/n", "master": "10.0.0.1", "insecure": True}).listen_host() == "0.0.0.0"


def test_a_node_has_the_name_of_its_host_unless_told_otherwise() -> None:
    assert options(NodeOptions, {"path": "/n"}).node_name()
    assert options(NodeOptions, {"path": "/n", "name": "shelf-3"}).node_name() == "shelf-3"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("host", "tcp://host:7700"),
        ("host:1", "tcp://host:1"),
        ("dsa://host", "tcp://host:7700"),
        ("tcp://host:2", "tcp://host:2"),
        ("[::1]:3", "tcp://[::1]:3"),
        ("[::1]", "tcp://[::1]:7700"),
    ],
)
def test_a_master_is_named_in_any_usual_way(text: str, endpoint: str) -> None:
    assert master_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text", ["", "a b", "host:x", "host:70000", "http://host", "h1,h2", "host:0", "0.0.0.0", "host/x"]
)
def test_anything_else_is_no_master(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        master_endpoint(text)
    assert "dsa://" not in f"{caught.value.message} {caught.value.remedy}", "nobody has to write a scheme here"
    assert caught.value.remedy


@pytest.mark.parametrize("zone", ["", "row-a", "dc1/row-a", "Saal 3", "ряд", "z" * 63])
def test_a_zone_is_a_short_text(zone: str) -> None:
    assert NodeOptions(path="n", zone=zone).checked().zone == zone


@pytest.mark.parametrize("zone", ["z" * 64, "a\nb", "a\x1b[2J", " a", "a ", "it's", "\u202e"])
def test_anything_else_is_no_zone(zone: str) -> None:
    with pytest.raises(Invalid, match="is not a zone"):
        NodeOptions(path="n", zone=zone).checked()


def test_an_advertised_address_takes_the_own_port_if_it_has_none() -> None:
    assert advertised_endpoint("files.example.org", 7710) == "tcp://files.example.org:7710"
    assert advertised_endpoint("files.example.org:99", 7710) == "tcp://files.example.org:99"
    assert advertised_endpoint("[fe80::1]", 7710) == "tcp://[fe80::1]:7710"


def test_hosts_come_without_port_and_brackets() -> None:
    assert connect_host("::1") == connect_host("[::1]") == "::1"
    assert listen_host("*") == "*"
    assert listen_host("[::]") == "::"
    for text in ("host:1", "h1,h2", "[::1]:2"):
        with pytest.raises(Invalid):
            connect_host(text)
