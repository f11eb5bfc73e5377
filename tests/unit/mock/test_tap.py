"""`twistd infergate-mock`: options, and the service made of them."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IServiceMaker
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from infergate.mock.script import Script
from infergate.mock.tap import Options, makeService, script_from
from twisted.plugins.infergate_mock_plugin import infergate_mock as plugin


class Plugin(SynchronousTestCase):
    def options(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def test_twistd_finds_the_plugin(self) -> None:
        """twistd finds the plugin by its name, without loading what it stands for."""
        verifyObject(IPlugin, plugin)
        verifyObject(IServiceMaker, plugin)
        self.assertEqual(plugin.tapname, "infergate-mock")

    def test_each_member_of_a_script_is_an_option(self) -> None:
        """Each member of a script is an option, and what is not given keeps its default."""
        options = self.options("--chunk-delay", "0.5", "--fail=reset", "--usage=false")
        self.assertEqual(script_from(options), Script(chunk_delay=0.5, fail="reset", usage=False))
        self.assertEqual(script_from(self.options()), Script())

    def test_listens_where_it_was_told(self) -> None:
        """The service listens where it was told, from when it is made."""
        reactor = MemoryReactorClock()
        service = makeService(self.options("--port", "9001", "--host", "::1"), reactor)
        port, _, _, host = reactor.tcpServers[0]
        self.assertEqual((port, host), (9001, "::1"))
        service.startService()
        self.assertIsNone(service.stopService())

    def test_wrong_option_ends_the_process_with_one_line(self) -> None:
        """A wrong option ends the process with one line, not with a page of help."""
        for arguments in (("--nope",), ("--port", "x"), ("--port", "65536"), ("--fail", "x")):
            with self.assertRaises(SystemExit) as caught:
                makeService(self.options(*arguments), MemoryReactorClock())
            self.assertRegex(str(caught.exception), r"\Ainfergate-mock: [^\n]+\Z")

    def test_port_that_is_taken_ends_the_process_with_one_line(self) -> None:
        """A port that is taken ends the process with one line."""

        class Taken(MemoryReactorClock):
            def listenTCP(self, port: int, *_: object, **__: object) -> Any:
                raise CannotListenError("127.0.0.1", port, OSError("in use"))

        with self.assertRaises(SystemExit) as caught:
            makeService(self.options("--port", "9000"), Taken())
        self.assertIn("127.0.0.1:9000", str(caught.exception))
