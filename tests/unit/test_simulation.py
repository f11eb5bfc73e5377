"""The event loop of `benchmarks.simulation`, where arithmetic says what must come out."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.simulation import Costs, Work, percentile, simulate

COSTS = Costs(iteration=50, waking=0, request=200, chunk=20)


class Simulation(SynchronousTestCase):
    def test_single_client_waits_for_two_iterations(self) -> None:
        """One of its request and one of the reply, and for nobody else."""
        outcome = simulate(COSTS, Work(connections=1), 100, 1)
        self.assertAlmostEqual(percentile(outcome.requests, 0.5), 300, 3)
        self.assertAlmostEqual(len(outcome.requests) * 400 / 1e6, 1, 2)
        self.assertAlmostEqual(outcome.utilisation, 300 / 400, 2)

    def test_crowd_shares_its_iterations(self) -> None:
        """Where every iteration serves many, a request costs hardly more than itself, and the
        gateway is never idle."""
        outcome = simulate(COSTS, Work(connections=100), 100, 1)
        self.assertAlmostEqual(outcome.utilisation, 1, 2)
        self.assertAlmostEqual(len(outcome.requests) * 201 / 1e6, 1, 1)

    def test_streams_take_what_their_chunks_cost(self) -> None:
        """Chunks that come one at a time, each with an iteration of its own; none is late."""
        outcome = simulate(COSTS, Work(streams=50, interval=100), 100, 2)
        self.assertAlmostEqual(outcome.utilisation, 50 * 10 * 70e-6, 3)
        self.assertAlmostEqual(percentile(outcome.chunks, 0.99), 70)

    def test_sleep_makes_an_iteration_dear(self) -> None:
        """When other programs have had the caches, the same chunks take more."""
        dear = Costs(iteration=50, waking=30, request=200, chunk=20)
        outcome = simulate(dear, Work(streams=50, interval=100), 100, 2)
        # The process was awake when it began.
        self.assertEqual(outcome.wakings, outcome.iterations - 1)
        self.assertAlmostEqual(outcome.utilisation, 50 * 10 * 100e-6, 3)
