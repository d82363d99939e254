"""The departments of a master, in the order in which they get their ticks."""

from __future__ import annotations

from dsa_zmq.master.comparison import Comparison
from dsa_zmq.master.converter import Converter
from dsa_zmq.master.copies import Copies
from dsa_zmq.master.damage import DamageDesk
from dsa_zmq.master.department import Department
from dsa_zmq.master.examiner import Examiner
from dsa_zmq.master.garbage import Garbage
from dsa_zmq.master.health_desk import HealthDesk
from dsa_zmq.master.mover import Mover
from dsa_zmq.master.office import Office
from dsa_zmq.master.planning import Planning
from dsa_zmq.master.probing import Prober
from dsa_zmq.master.removals import Removals
from dsa_zmq.master.reports import Reports
from dsa_zmq.master.scrubs import Scrubs
from dsa_zmq.master.survey import SurveyDesk
from dsa_zmq.master.tasks import TaskDesk

DEPARTMENTS: tuple[type[Department], ...] = (
    Copies, Prober, Reports, Garbage, HealthDesk, Planning, Examiner, Removals, Comparison, SurveyDesk, Mover, DamageDesk,
    Scrubs, Converter, TaskDesk,
)  # fmt: skip


def open_departments(office: Office) -> tuple[Department, ...]:
    """All of them, over one office."""
    return tuple(kind(office) for kind in DEPARTMENTS)
