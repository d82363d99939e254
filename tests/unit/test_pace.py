"""Times and limits of healing."""

from __future__ import annotations

import dataclasses

import pytest

from dsa_zmq.errors import ConfigError
from dsa_zmq.master.settings import MasterSettings
from dsa_zmq.model.pace import CarePace, HealingPace


def test_a_faster_cluster_waits_less_and_copies_no_more():
    slow, fast = HealingPace(), HealingPace().faster(20)
    changed = {
        field.name for field in dataclasses.fields(slow) if getattr(slow, field.name) != getattr(fast, field.name)
    }
    assert fast.endangered_delay_s == slow.endangered_delay_s / 20
    assert changed == {
        field.name for field in dataclasses.fields(slow) if field.type == "float" and field.name[-2:] == "_s"
    }
    assert fast.node_bytes_s == slow.node_bytes_s


@pytest.mark.parametrize("kind", [HealingPace, CarePace])
def test_every_time_and_limit_must_be_positive(kind):
    for field in dataclasses.fields(kind):
        with pytest.raises(ConfigError, match=field.name):
            kind(**{field.name: 0})


def test_by_default_nothing_is_repaired_before_its_node_is_down_for_longer_than_a_restart():
    settings = MasterSettings()
    assert settings.pace.endangered_delay_s >= settings.down_s
    assert settings.pace.degraded_delay_s > settings.pace.endangered_delay_s
