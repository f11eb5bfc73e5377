"""A quicker event loop iteration: what is read at once, and what goes the usual way."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from infergate.reactor.epoll import CROWD, TWISTED_INTERNALS, Iteration, iteration_of, shorten


class Poller:
    """An epoll that says what it is told to, and knows what it was asked."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int]] = []
        self.asked: list[tuple[float, int]] = []

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        self.asked.append((timeout, most))
        return self.events

    def register(self, fd: int, flags: int) -> None:
        """Not looked at."""

    modify = register

    def unregister(self, fd: int) -> None:
        """Not looked at."""


class Selectable:
    """What a reactor reads and writes; `does` is what happens then, and its answer is returned."""

    def __init__(self, fd: int, does: Callable[[], object] = lambda: None) -> None:
        self._fd = fd
        self._does = does
        self.calls: list[str] = []
        self.ends: list[BaseException] = []

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "selectable"

    def doRead(self) -> object:
        self.calls.append("read")
        return self._does()

    def doWrite(self) -> object:
        self.calls.append("write")
        return self._does()

    def connectionLost(self, reason: Failure) -> None:
        self.ends.append(reason.value)


class Loop(SynchronousTestCase):
    """A reactor of which each iteration is what the test says, and which nobody runs."""

    def setUp(self) -> None:
        self.reactor = self.new()
        self.poller = self.reactor._poller = Poller()
        shorten(self.reactor)

    def new(self) -> Any:
        """A reactor as Twisted makes it, which is not the one that is installed."""
        reactor: Any = EPollReactor()
        self.addCleanup(reactor._poller.close)
        self.addCleanup(reactor.waker.connectionLost, None)
        return reactor

    def add(self, fd: int, does: Callable[[], object] = lambda: None) -> Selectable:
        return self.added(Selectable(fd, does))

    def added(self, selectable: Any) -> Any:
        self.reactor.addReader(selectable)
        return selectable

    def iterate(self, *events: tuple[int, int], timeout: float | None = 0) -> None:
        self.poller.events = list(events)
        self.reactor.doIteration(timeout)

    def assert_gone(self, selectable: Selectable, *reasons: BaseException) -> None:
        """It was disconnected for these reasons, and is watched no more."""
        self.assertEqual(selectable.ends, list(reasons))
        self.assertNotIn(selectable, self.reactor.getReaders())


def fails(error: BaseException) -> Callable[[], object]:
    def raises() -> object:
        raise error

    return raises


class Reading(Loop):
    def test_what_can_be_read_is_read_once(self) -> None:
        """What can be read is read once, whichever socket it is of, and no other is."""
        sockets = [self.add(fd) for fd in (1001, 1002, 1003)]
        self.iterate((1001, EPOLLIN), (1003, EPOLLIN))
        self.assertEqual([socket.calls for socket in sockets], [["read"], [], ["read"]])
        self.iterate()
        self.assertEqual([socket.calls for socket in sockets], [["read"], [], ["read"]])
        for socket in sockets:
            self.assertEqual(socket.ends, [])
            self.assertIn(socket, self.reactor.getReaders())

    def test_reading_takes_no_detour_through_twisted(self) -> None:
        """It is read without the calls that Twisted makes of it."""

        def usual(*args: object) -> None:
            self.fail("the usual way")

        self.reactor._doReadOrWrite = usual
        socket = self.add(1001)
        self.iterate((1001, EPOLLIN))
        self.assertEqual(socket.calls, ["read"])

    def test_socket_added_in_one_iteration_is_read_in_the_next(self) -> None:
        """What is added in one iteration is read in the next."""
        added: list[Selectable] = []
        self.add(1001, lambda: added.append(self.add(1002)))
        self.iterate((1001, EPOLLIN))
        self.iterate((1002, EPOLLIN))
        self.assertEqual(added[0].calls, ["read"])

    def test_exception_of_a_read_disconnects_its_socket(self) -> None:
        """What a read raises, whatever it is, is logged, and its socket is disconnected."""
        for error in (ValueError("mine"), GeneratorExit()):
            socket = self.add(1001, fails(error))
            self.iterate((1001, EPOLLIN))
            self.assertEqual(
                [failure.value for failure in self.flushLoggedErrors(type(error))], [error]
            )
            self.assert_gone(socket, error)

    def test_reason_that_a_read_returns_disconnects_its_socket(self) -> None:
        """What a read returns is why its socket is disconnected, and nothing is logged."""
        for reason in (ConnectionDone(), ConnectionLost(), OSError("reset")):
            socket = self.add(1001, lambda reason=reason: reason)
            self.iterate((1001, EPOLLIN))
            self.assertEqual([type(end) for end in socket.ends], [type(reason)])
            self.assertNotIn(socket, self.reactor.getReaders())
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_end_of_input_leaves_a_half_closeable_socket_open(self) -> None:
        """The end of what is read is only that, to a socket that can be half closed."""

        @implementer(IHalfCloseableDescriptor)
        class HalfCloseable(Selectable):
            def readConnectionLost(self, reason: Failure) -> None:
                self.calls.append(reason.type.__name__)

            def writeConnectionLost(self, reason: Failure) -> None:
                raise AssertionError

        socket = self.added(HalfCloseable(1001, ConnectionDone))
        self.iterate((1001, EPOLLIN))
        self.assertEqual(socket.calls, ["read", "ConnectionDone"])
        self.assert_gone(socket)

    def test_socket_that_fails_keeps_no_other_from_being_read(self) -> None:
        """A socket that fails keeps no other from being read."""
        self.add(1001, fails(ValueError("mine")))
        self.add(1002, ConnectionLost)
        third = self.add(1003)
        self.iterate((1001, EPOLLIN), (1002, EPOLLIN), (1003, EPOLLIN))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(third.calls, ["read"])

    def test_event_of_a_socket_closed_meanwhile_is_passed_over(self) -> None:
        """An event of a socket that an earlier event of the iteration has closed is passed over."""
        second = Selectable(1002)
        self.add(1001, lambda: self.reactor.removeReader(second))
        third = self.add(1003)
        for event in (EPOLLIN, EPOLLHUP, EPOLLIN | EPOLLOUT):
            self.added(second)
            self.iterate((1001, EPOLLIN), (1002, event), (1003, EPOLLIN))
        self.assertEqual((second.calls, second.ends), ([], []))
        self.assertEqual(third.calls, ["read"] * 3)


class Others(Loop):
    def test_other_events_go_the_usual_way(self) -> None:
        """Every event but that there is something to read goes the usual way, as it came."""
        socket = self.add(1001)
        given: list[object] = []
        self.reactor._doReadOrWrite = lambda *args: given.append(args)
        events = (
            EPOLLOUT,
            EPOLLIN | EPOLLOUT,
            EPOLLHUP,
            EPOLLERR,
            EPOLLIN | EPOLLHUP,
            EPOLLIN | EPOLLERR | EPOLLHUP,
        )
        self.iterate(*[(1001, event) for event in events])
        self.assertEqual(given, [(socket, 1001, event) for event in events])
        self.assertEqual(socket.calls, [])

    def test_other_events_do_what_they_always_did(self) -> None:
        """There each is what it was: a write, a read and a write, a hang-up."""
        for event, calls, ends in (
            (EPOLLOUT, ["write"], []),
            (EPOLLIN | EPOLLOUT, ["read", "write"], []),
            (EPOLLIN | EPOLLHUP, ["read"], []),
            (EPOLLHUP, [], [ConnectionDone]),
        ):
            socket = self.add(1001)
            self.iterate((1001, event))
            self.assertEqual((socket.calls, [type(end) for end in socket.ends]), (calls, ends))
            self.reactor.removeReader(socket)

    def test_exception_of_a_write_disconnects_its_socket(self) -> None:
        """An exception is logged there too, and its socket disconnected."""
        error = ValueError("mine")
        socket = self.add(1001, fails(error))
        self.iterate((1001, EPOLLOUT))
        self.assertEqual([failure.value for failure in self.flushLoggedErrors()], [error])
        self.assert_gone(socket, error)


class AtTheEnd(Loop):
    """What may wait for the end of a iteration."""

    def happenings(self, events: int) -> list[str]:
        """What happens with so many events, of which the first puts something off."""
        happened: list[str] = []
        iteration = self.own

        def first() -> None:
            happened.append(f"crowded: {iteration.crowded}")
            iteration.at_end.append(lambda: happened.append(f"end, crowded: {iteration.crowded}"))

        self.add(1000, first)
        for fd in range(1001, 1000 + events):
            self.add(fd, lambda: happened.append("read"))
        self.iterate(*[(fd, EPOLLIN) for fd in range(1000, 1000 + events)])
        return happened

    @property
    def own(self) -> Iteration:
        iteration = iteration_of(self.reactor)
        assert iteration is not None
        return iteration

    def test_call_at_the_end_comes_after_all_events(self) -> None:
        """What is put off is done once, when every event of the iteration is dealt with."""
        self.assertEqual(
            self.happenings(CROWD),
            ["crowded: True", *["read"] * (CROWD - 1), "end, crowded: False"],
        )
        self.assertEqual(self.own.at_end, [])

    def test_iteration_with_few_events_is_not_crowded(self) -> None:
        """With few events an iteration is not crowded; nor is what comes between two of them."""
        self.assertEqual(self.happenings(CROWD - 1)[0], "crowded: False")
        self.assertFalse(self.own.crowded)

    def test_failing_call_at_the_end_keeps_no_other_from_being_made(self) -> None:
        """What fails then is logged, and what comes after it is done all the same."""
        done: list[int] = []
        self.own.at_end += [fails(ValueError("mine")), lambda: done.append(1)]
        self.iterate()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual((done, self.own.at_end), ([1], []))

    def test_call_added_at_the_end_waits_for_the_next_end(self) -> None:
        """What is put off at the end of one iteration is done at the end of the next."""
        done: list[int] = []
        self.own.at_end.append(lambda: self.own.at_end.append(lambda: done.append(1)))
        self.iterate()
        self.assertEqual(done, [])
        self.iterate()
        self.assertEqual(done, [1])


class Polling(Loop):
    def test_iteration_waits_as_long_as_it_was_asked_to(self) -> None:
        """A iteration waits as long as it was asked to, and for ever where it was not."""
        for timeout, expected in ((None, -1), (0, 0), (0.25, 0.25)):
            self.iterate(timeout=timeout)
            self.assertEqual(self.poller.asked[-1][0], expected)

    def test_iteration_takes_an_event_of_every_socket(self) -> None:
        """It takes an event of every socket there is, as many as there are by then."""
        few = len(self.reactor.getReaders())
        self.assertGreater(few, 0, "epoll takes no 0: the reactor's own waker is there")
        self.iterate()
        for fd in range(1001, 1011):
            self.add(fd)
        self.iterate()
        self.assertEqual([most for _, most in self.poller.asked], [few, few + 10])

    def test_real_epoll_is_woken_from_elsewhere(self) -> None:
        """A real epoll wakes up when it is called from elsewhere, and then has nothing more."""
        reactor = self.new()
        shorten(reactor)
        reactor.wakeUp()
        reactor.doIteration(5)
        self.assertEqual(reactor._poller.poll(0, 1), [])


class Reactors(Loop):
    def test_only_the_given_reactor_is_changed(self) -> None:
        """The reactor that was given has a iteration of its own, and no other by it."""
        self.assertIn("doIteration", vars(self.reactor))
        self.assertNotIn("doIteration", vars(self.new()))
        self.assertIs(EPollReactor.doIteration, EPollReactor.doPoll)

    def test_any_other_reactor_stays_as_it_is(self) -> None:
        """Any other reactor stays as it is, whatever it has."""

        class Alike:
            def __init__(self) -> None:
                self._poller = Poller()
                self._selectables: dict[int, object] = {}

            def doIteration(self, timeout: float | None) -> None:
                """Its own."""

        for reactor in (Clock(), Alike()):
            before = dict(vars(reactor))
            shorten(reactor)
            self.assertEqual(vars(reactor), before)
            self.assertIsNone(iteration_of(reactor))

    def test_private_names_of_twisted_are_what_they_were(self) -> None:
        """Every private name of Twisted's that is used still is there, as what it was."""
        reactor = self.new()
        for owner, names in TWISTED_INTERNALS.items():
            self.assertIs(owner, EPollReactor)
            for name in names:
                self.assertTrue(hasattr(reactor, name), name)
        self.assertEqual(reactor._selectables, {reactor.waker.fileno(): reactor.waker})
        self.assertEqual(reactor._poller.poll(0, 1), [])
        for name, parameters in (
            ("_doReadOrWrite", ["selectable", "fd", "event"]),
            ("_disconnectSelectable", ["selectable", "why", "isRead"]),
        ):
            self.assertEqual(list(signature(getattr(reactor, name)).parameters)[:3], parameters)
