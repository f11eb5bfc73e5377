"""A backend that is hostile or merely odd, over real sockets: what memory cannot show."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, chat, gateway, get, post, running, wait_for
from tests.e2e.wrong_backend import certificate

skip = OFF

MIB = 1 << 20
REPLY = json.dumps({"choices": [{"message": {"role": "assistant", "content": "ok"}}]}).encode()

Serve = Callable[[socket.socket], None]


def read_head(connection: socket.socket) -> bytes:
    """A request's head, and what of its body came with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(1024)
        if not chunk:
            raise ConnectionError
        data += chunk
    return data


def answer(connection: socket.socket, body: bytes, status: str = "200 OK") -> None:
    connection.sendall(
        b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (status.encode(), len(body), body)
    )


@contextmanager
def backend(serve: Serve, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that gives each connection to `serve`; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server, serving(server, serve, tls):
        yield server.getsockname()[1]


@contextmanager
def serving(
    server: socket.socket, serve: Serve, tls: ssl.SSLContext | None = None
) -> Iterator[None]:
    """Gives each connection to `serve`, in a thread of its own."""

    def run(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            serve(connection if tls is None else tls.wrap_socket(connection, server_side=True))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=run, args=server.accept()[:1], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield
    server.shutdown(socket.SHUT_RDWR)


class EarlyAnswers(SynchronousTestCase):
    """A backend that refuses a large request when it has its head, keeps the connection open and
    never reads the rest, nor what comes after it."""

    def assert_next_caller_is_served(self, stack: ExitStack, tls: Path | None = None) -> None:
        context, scheme, environment = None, "http", {}
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            scheme, environment = "https", {"SSL_CERT_FILE": str(tls)}

        def serve(connection: socket.socket) -> None:
            if b"Content-Length: 1" in read_head(connection):  # a large one
                answer(connection, b'{"error":{"message":"too large"}}', "413 Too Large")
                time.sleep(30)
            else:
                answer(connection, REPLY)

        port = stack.enter_context(backend(serve, context))
        one = gateway(
            {"BACKEND_URL": f"{scheme}://127.0.0.1:{port}", "BACKEND_TIMEOUT": "3", **environment}
        )
        stack.enter_context(running(one))
        for size in (100_000, 1_500_000, 10_000_000):
            self.assertEqual(chat(one.url, {"pad": "x" * size})[0], 413)
            self.assertEqual(chat(one.url, {})[0], 200, size)

    def test_early_answer_over_tcp_costs_only_its_connection(self) -> None:
        """The next caller gets an answer, whatever the size of the refused request was."""
        with ExitStack() as stack:
            self.assert_next_caller_is_served(stack)

    def test_early_answer_over_tls_costs_only_its_connection(self) -> None:
        """Over TLS too."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self.assert_next_caller_is_served(stack, certificate(folder))


class Handshakes(SynchronousTestCase):
    """A backend that takes the connection and never answers the TLS handshake, or not as asked."""

    def failed(self, stack: ExitStack, serve: Serve) -> tuple[int, str | None, float]:
        """What becomes of a request: its status, its advice to an SDK, and after how long."""
        port = stack.enter_context(backend(serve))
        url = f"https://127.0.0.1:{port}"
        one = gateway({"BACKEND_URL": url, "BACKEND_CONNECT_TIMEOUT": "1", "BACKEND_TIMEOUT": "6"})
        stack.enter_context(running(one))
        began = time.monotonic()
        status, fields, _ = chat(one.url, {})
        return status, fields.get("x-should-retry"), time.monotonic() - began

    def test_handshake_that_hangs_is_under_the_connect_timeout(self) -> None:
        """It is given up after BACKEND_CONNECT_TIMEOUT, and an SDK may try again."""
        with ExitStack() as stack:
            status, advice, took = self.failed(stack, lambda connection: time.sleep(30))
            self.assertEqual((status, advice), (504, None))
            self.assertLess(took, 2)

    def test_handshake_that_fails_may_be_tried_again(self) -> None:
        """Nothing was sent, and the client is told so."""
        with ExitStack() as stack:
            status, advice, _ = self.failed(stack, lambda connection: answer(connection, b"{}"))
            self.assertEqual((status, advice), (502, None))


class Reaching(SynchronousTestCase):
    """Where a backend may be, and how it is reached there."""

    @staticmethod
    def reply(connection: socket.socket) -> None:
        path = read_head(connection).split(b" ")[1]
        answer(connection, REPLY if path == b"/api/v4/chat/completions" else b"{}", "200 OK")

    def test_authorities_of_the_operator_are_trusted(self) -> None:
        """With BACKEND_CA_FILE a certificate of one's own is trusted, without it is not; /readyz
        says the same."""
        with ExitStack() as stack:
            file = certificate(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(file)
            port = stack.enter_context(backend(self.reply, context))
            url = {"BACKEND_URL": f"https://127.0.0.1:{port}/api/v4"}
            for more, status, ready in (({"BACKEND_CA_FILE": str(file)}, 200, 200), ({}, 502, 503)):
                one = gateway({**url, **more})
                with running(one):
                    self.assertEqual(chat(one.url, {})[0], status)
                    self.assertEqual(get(one.url + "/readyz")[0], ready)

    def test_backend_behind_a_unix_socket(self) -> None:
        """A Unix socket serves like a port, and one that is not there is no backend."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            path = str(folder / "backend.sock")

            def reply(connection: socket.socket) -> None:
                while head := read_head(connection):
                    answer(connection, REPLY if head.startswith(b"POST /v1/chat/") else b"{}")

            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(path)
            server.listen()
            stack.enter_context(serving(server, reply))
            one = gateway({"BACKEND_URL": f"unix:{path}"})
            stack.enter_context(running(one))
            for _ in range(3):
                self.assertEqual(chat(one.url, {})[0], 200)
            self.assertEqual(get(one.url + "/readyz")[0], 200)
            other = gateway({"BACKEND_URL": f"unix:{path}.not"})
            stack.enter_context(running(other))
            self.assertEqual(chat(other.url, {})[0], 502)
            self.assertEqual(get(other.url + "/readyz")[0], 503)


class Memory(SynchronousTestCase):
    """Clients that leave in the middle of large replies."""

    CLIENTS = 12

    def test_replies_that_nobody_took_are_freed(self) -> None:
        """A reply is freed when its client leaves, and not when the garbage collector comes."""
        reply = json.dumps(
            {"choices": [{"message": {"role": "assistant", "content": "x" * (60 * MIB)}}]}
        ).encode()

        def serve(connection: socket.socket) -> None:
            while read_head(connection):
                answer(connection, reply)

        with ExitStack() as stack:
            port = stack.enter_context(backend(serve))
            one = gateway({"BACKEND_URL": f"http://127.0.0.1:{port}"})
            stack.enter_context(running(one))
            before = one.memory()
            for _ in range(self.CLIENTS):
                address = ("127.0.0.1", int(one.url.rpartition(":")[2]))
                with socket.create_connection(address, 30) as client:
                    client.sendall(post({}))
                    client.recv(65536)
            wait_for(lambda: len(one.requests()) == self.CLIENTS, 30, "the last line")
            self.assertLess(one.memory() - before, 150 * MIB)
