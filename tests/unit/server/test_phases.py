"""The phases of a client's connection."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from infergate.server import phases
from infergate.server.phases import CLOSED, LINGERING, Phase


class Phases(SynchronousTestCase):
    def test_table_has_each_phase_once_in_order(self) -> None:
        """Whoever reads the table finds every phase there is, in the order of its numbers."""
        table = re.findall(r"^ {4}([A-Z]+) +\|", phases.__doc__ or "", re.MULTILINE)
        self.assertEqual(table, [phase.name for phase in sorted(Phase)])

    def test_each_phase_is_a_name_of_the_module(self) -> None:
        """The short name of a phase is that phase and no other."""
        for phase in Phase:
            self.assertIs(getattr(phases, phase.name), phase)

    def test_nothing_comes_after_lingering_but_the_end(self) -> None:
        """An answer can be written in every phase before LINGERING; after it there is CLOSED."""
        self.assertEqual([phase for phase in Phase if phase >= LINGERING], [LINGERING, CLOSED])
