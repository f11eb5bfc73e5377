"""Which web pages may call the gateway."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.server.origins import NO_ORIGINS, Origins, parse_origins
from tests.unit.inmemory import CHAT, Answer, Running, chat, delta, request

PAGE = "https://chat.example"
ORIGIN = f"Origin: {PAGE}"
CORS = "access-control-allow-origin"


def preflight(path: str = CHAT, origin: str = PAGE, *headers: str) -> bytes:
    return request(
        "OPTIONS",
        path,
        f"Origin: {origin}",
        "Access-Control-Request-Method: POST",
        *headers,
    )


class Parsing(SynchronousTestCase):
    def test_origins_are_read_as_browsers_send_them(self) -> None:
        """Case does not count, nor a port that is the scheme's own, which browsers leave out."""
        for text, origins in (
            ("https://a.example", [b"https://a.example"]),
            (" HTTPS://A.Example:443 , http://b:80", [b"https://a.example", b"http://b"]),
            ("http://localhost:3000,http://[::1]:80", [b"http://localhost:3000", b"http://[::1]"]),
            ("app://obsidian.md,null", [b"app://obsidian.md", b"null"]),
            ("https://a:80", [b"https://a:80"]),
        ):
            self.assertEqual(parse_origins(text), Origins(frozenset(origins)))
        self.assertEqual(parse_origins(" * "), Origins(any_origin=True))

    def test_what_no_browser_would_send_is_refused(self) -> None:
        """An entry that could never match is a mistake, and stops the start."""
        for text in ("", "a.example", "https://a/", "https://a/b", "https://*.a", "*,https://a",
                     "https://a,", "https://u@a", "https://a:x", "https://a b"):  # fmt: skip
            with self.assertRaises(ValueError, msg=text):
                parse_origins(text)


class Pages(SynchronousTestCase):
    def assert_readable(self, answer: Answer, origin: str = PAGE) -> None:
        self.assertEqual(answer.headers[CORS], origin)
        self.assertEqual(answer.headers["vary"], "Origin")
        self.assertNotIn("access-control-allow-credentials", answer.headers)
        exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
        for name in ("x-request-id", "retry-after", "server-timing"):
            self.assertIn(name, exposed)
        limits = [name for name in exposed if name.startswith("x-ratelimit-")]
        self.assertEqual(len(set(limits)), 6)

    def test_preflight_needs_no_key(self) -> None:
        """A browser asks without a key, and is told that it may send the fields it names."""
        running = Running(cors=f"http://other,{PAGE}", keys="key")
        names = "Access-Control-Request-Headers: authorization, content-type,x-api-key"
        for path in (CHAT, "/v1/models", "/nope"):
            answer = running.ask(preflight(path, PAGE, names))
            self.assertEqual((answer.status, answer.body), (204, b""))
            self.assert_readable(answer)
            allowed = answer.headers["access-control-allow-headers"]
            self.assertEqual(allowed, "authorization, content-type,x-api-key")
            self.assertIn("POST", answer.headers["access-control-allow-methods"])
            self.assertNotIn("content-length", answer.headers)
            self.assertNotIn("content-type", answer.headers)
        self.assertEqual(running.records[0].route, CHAT)
        self.assertEqual(running.records[2].route, "other")

    def test_connection_is_kept_after_a_preflight(self) -> None:
        """What follows a preflight on its connection is answered there."""
        client = Running(cors=PAGE).connect()
        client.send(preflight() + chat(ORIGIN))
        self.assertEqual([answer.status for answer in client.answers()], [204, 200])

    def test_every_answer_to_a_listed_origin_can_be_read_by_its_page(self) -> None:
        """Successes, streams and errors of every kind are open to the page."""
        for data, status in (
            (chat(ORIGIN, "Authorization: Bearer key"), 200),
            (chat(ORIGIN, "Authorization: Bearer key", stream=True), 200),
            (chat(ORIGIN), 401),
            (chat(ORIGIN, "Authorization: Bearer key", n=0), 400),
            (request("GET", "/nope", ORIGIN), 404),
            (request("PUT", CHAT, ORIGIN), 405),
            (request("GET", "/healthz", ORIGIN), 200),
        ):
            answer = Running(cors=PAGE, keys="key").ask(data)
            self.assertEqual(answer.status, status)
            self.assert_readable(answer)
        running = Running(cors=PAGE, rate="1/hour")
        running.ask(chat(ORIGIN))
        answer = running.ask(chat(ORIGIN))
        self.assertEqual(answer.status, 429)
        self.assert_readable(answer)
        running.edge.drain()
        answer = running.ask(chat(ORIGIN))
        self.assertEqual(answer.status, 503)
        self.assert_readable(answer)

    def test_origin_behind_a_refused_head_is_none_of_it(self) -> None:
        """What comes with a request that is refused, as its body or as the next request, does not
        say which page may read the answer."""
        broken = request("GET", "/", f"{ORIGIN}\r\nX : y")
        self.assert_readable(Running(cors=PAGE).ask(broken + chat(ORIGIN)))
        answer = Running(cors=PAGE).ask(request("GET", "/", "X : y") + chat(ORIGIN))
        self.assertEqual((answer.status, answer.headers.get("vary")), (400, None))

    def test_stream_of_a_backend_can_be_read(self) -> None:
        """A stream that is passed on is open to the page too."""
        running = Running(cors=PAGE, backend=True)
        client = running.connect()
        client.send(chat(ORIGIN, stream=True))
        running.backend.begin()
        running.backend.piece(delta("a"))
        self.assert_readable(client.answer)

    def test_pages_of_other_origins_get_nothing(self) -> None:
        """A page that is not listed learns nothing from an answer, and its preflight fails."""
        for cors in (PAGE, None):
            for origin in ("https://evil.example", "http://chat.example", f"{PAGE}:8080", "null"):
                running = Running(cors=cors)
                for data, status in (
                    (preflight(CHAT, origin), 405),
                    (chat(f"Origin: {origin}"), 200),
                    (chat(f"Origin: {origin}", f"Origin: {PAGE}"), 200),
                ):
                    answer = running.ask(data)
                    self.assertEqual(answer.status, status)
                    named = [name for name in answer.headers if name.startswith("access-control")]
                    self.assertEqual((named, answer.headers.get("vary")), ([], None))

    def test_star_lets_every_page_in_without_its_cookies(self) -> None:
        """With * every origin is listed, by the star, which no browser takes with cookies."""
        running = Running(cors="*")
        self.assert_readable(running.ask(chat("Origin: https://any.example")), "*")
        self.assert_readable(running.ask(preflight(CHAT, "null")), "*")

    def test_requests_without_an_origin_are_answered_as_ever(self) -> None:
        """An SDK gets no field that is for browsers, and a plain OPTIONS is no preflight."""
        running = Running(cors="*")
        self.assertNotIn(CORS, running.ask(chat()).headers)
        self.assertEqual(running.ask(request("OPTIONS", CHAT)).status, 405)
        self.assertEqual(running.ask(request("OPTIONS", CHAT, ORIGIN)).status, 405)

    def test_names_that_are_no_header_fields_are_not_repeated(self) -> None:
        """What a client writes where names belong cannot shape the answer."""
        names = 'Access-Control-Request-Headers: a, "b"'
        answer = Running(cors="*").ask(preflight(CHAT, PAGE, names))
        self.assertNotIn("access-control-allow-headers", answer.headers)

    def test_metrics_listener_knows_no_pages(self) -> None:
        """Nothing on METRICS_LISTEN may be read by a page of another origin."""
        running = Running(cors="*", metrics_apart=True)
        client = running.connect(edge=running.metrics_edge)
        self.assertNotIn(CORS, client.ask(request("GET", "/metrics", ORIGIN)).headers)

    def test_no_origins_by_default(self) -> None:
        """Unset, no page of another origin may call."""
        self.assertEqual(NO_ORIGINS.answer_fields({b"origin": [b"https://a"]}, b"/"), [])

    def test_status_page_is_closed_to_every_other_origin(self) -> None:
        """What the operator sees, no page of another origin may read, listed or not."""
        for path in ("/", "/status", "/status/events"):
            for method in ("GET", "OPTIONS"):
                running = Running(cors="*")
                data = request(
                    method, path, ORIGIN, "Accept: text/html", "Access-Control-Request-Method: GET"
                )
                client = running.connect("127.0.0.1")
                client.send(data)
                self.assertNotIn(b"Access-Control", client.received, (method, path))
                self.assertNotIn(b" 204 ", client.received)
