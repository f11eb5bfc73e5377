"""Long work in steps, done at once."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.steps import Steps, at_once


def count(steps: int, done: list[int]) -> Steps[int]:
    for step in range(steps):
        done.append(step)
        yield
    return steps


def broken() -> Steps[None]:
    yield
    raise ValueError("second step")


class AtOnce(SynchronousTestCase):
    def test_all_steps_are_run_and_the_result_is_returned(self) -> None:
        """Whoever has a short text gets what the steps return, however few there are."""
        for steps in (0, 1, 5):
            done: list[int] = []
            self.assertEqual(at_once(count(steps, done)), steps)
            self.assertEqual(done, list(range(steps)))

    def test_what_a_step_raises_is_raised(self) -> None:
        """A fault that is found after the first step is not lost."""
        error = self.assertRaises(ValueError, at_once, broken())
        self.assertEqual(str(error), "second step")
