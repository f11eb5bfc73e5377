"""Who may come in, and how often."""

from __future__ import annotations

import attrs
from prometheus_client import generate_latest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from infergate.access.auth import IAuthenticator, Token
from infergate.access.keysfile import keys_from_text
from infergate.access.policy import Policies, Policy, TokenLimit
from infergate.access.ratelimit import Rate
from infergate.access.roster import Roster
from infergate.errors import Unauthorized
from infergate.server.addresses import parse_networks
from infergate.server.parser import Limits
from tests.unit.inmemory import CHAT, CLIENT, Answer, Running, chat, chat_body, completion, request

KEYS = "bob:key-of-bob,key-of-nobody"
BOB = "Authorization: Bearer key-of-bob"
MODELS = request("GET", "/v1/models")
LIMIT = "x-ratelimit-limit-requests"
REMAINING = "x-ratelimit-remaining-requests"
RESET = "x-ratelimit-reset-requests"


def models(*headers: str) -> bytes:
    return request("GET", "/v1/models", *headers)


class Keys(SynchronousTestCase):
    def test_without_keys_nobody_needs_one(self) -> None:
        """Where no key is set nobody needs one, and one that is sent is not looked at."""
        running = Running()
        self.assertEqual(running.ask(models("Authorization: Bearer whatever")).status, 200)
        self.assertIsNone(running.line["caller"])

    def test_key_opens_with_either_scheme_and_its_name_is_logged(self) -> None:
        """A key opens with either scheme, and its name is the caller's in the log."""
        for header in (
            BOB,
            "authorization: bearer  key-of-bob",
            "Authorization: Api-Key key-of-bob",
            "x-api-key: key-of-bob",
            "api-key: key-of-bob",
        ):
            running = Running(keys=KEYS)
            self.assertEqual(running.ask(chat(header)).status, 200)
            self.assertEqual(running.line["caller"], "bob")

    def test_missing_or_wrong_keys_are_refused_without_a_reason(self) -> None:
        """No key, a wrong one, two, or none to speak of: a 401 that says what is wanted, and
        nothing about what was wrong."""
        bodies = set()
        for headers in (
            (),
            ("Authorization: Bearer wrong",),
            (BOB, BOB),
            (BOB + ", Bearer key-of-bob",),
            ("Authorization: Bearer ",),
            ("Authorization: Basic a2V5LW9mLWJvYg==",),
            ("Authorization: Bearer kéy",),
            ("X-Api-Key: wrong",),
            ("X-Api-Key: key-of-bob", "X-Api-Key: key-of-bob"),
            ("Authorization: Bearer wrong", "X-Api-Key: key-of-bob"),
        ):
            running = Running(keys=KEYS, backend=True)
            answer = running.ask(chat("X-Request-ID: same", *headers))
            self.assertEqual((answer.status, answer.code), (401, "unauthorized"), headers)
            self.assertEqual(answer.headers["www-authenticate"], "Bearer")
            self.assertEqual(running.port.attempts, 0)
            self.assertEqual(
                (running.line["outcome"], running.line["caller"]), ("unauthorized", None)
            )
            bodies.add(answer.body)
        self.assertEqual(len(bodies), 1)

    def test_probes_alone_need_no_key(self) -> None:
        """Chat, the models and the metrics need the key; the probes never do."""
        for path, method, status in (
            (CHAT, "POST", 401),
            ("/v1/models", "GET", 401),
            ("/metrics", "GET", 401),
            ("/healthz", "GET", 200),
            ("/readyz", "GET", 200),
        ):
            self.assertEqual(Running(keys=KEYS).ask(request(method, path)).status, status, path)
        self.assertEqual(Running(keys=KEYS).get("/metrics", BOB).status, 200)

    def test_key_is_judged_anew_in_each_request_of_a_connection(self) -> None:
        """A key that a reload has taken away is refused from the next request on, and one that it
        has given is let in, also on a connection that stays open."""
        running = Running(keys=KEYS)
        client, admission = running.connect(), running.wired.admission
        for keys, status in ((KEYS, 200), ("bob:another", 401), (KEYS, 200)):
            admission.roster = Roster(keys_from_text(keys))
            client.send(chat(BOB))
            self.assertEqual(client.answers()[-1].status, status)

    def test_client_key_never_reaches_the_backend(self) -> None:
        """A client's key never reaches the backend, which has its own."""
        for own, sent in ((None, None), ("own", "Bearer own")):
            running = Running(keys=KEYS, backend=True, backend_api_key=own)
            running.connect().send(chat(BOB, "Cookie: key-of-bob", "x-api-key: key-of-bob"))
            self.assertEqual(running.backend.request.headers.get("authorization"), sent)
            self.assertNotIn(b"key-of-bob", running.backend.received)

    def test_no_key_is_in_answer_log_or_metrics(self) -> None:
        """No key is in the answer, the line or the metrics, right or wrong."""
        running = Running(keys="canary-one", rate="1/hour")
        for header in ("Authorization: Bearer canary-one", "Authorization: Bearer canary-two"):
            for data in (
                models(header),
                models(header),
                chat(header),
                request("GET", "/x", header),
            ):
                self.assertNotIn(b"canary", running.ask(data).body)
        self.assertNotIn("canary", str(running.lines))
        self.assertNotIn(b"canary", generate_latest(running.metrics.registry))


class Waiting(SynchronousTestCase):
    """An authenticator that has to fetch something first."""

    def setUp(self) -> None:
        waiting = self.waiting = []

        @implementer(IAuthenticator)
        class Fetching:
            names = ()

            def authenticate(self, token: Token) -> Deferred[str]:
                waiting.append(Deferred())
                return waiting[-1]

        self.running = Running(authenticator=Fetching(), rate="1/hour")
        self.client = self.running.connect()

    def test_caller_who_is_known_later_is_let_in_then(self) -> None:
        """A caller who is known later is let in then."""
        self.client.send(chat("Authorization: Bearer a.b.c"))
        self.assertEqual(self.client.answers(), [])
        self.waiting[0].callback("alice")
        self.assertEqual(self.client.answer.status, 200)
        self.assertEqual(self.running.line["caller"], "alice")

    def test_caller_who_turns_out_to_be_nobody_is_kept_out(self) -> None:
        """One who turns out to be nobody is kept out, and counted as such."""
        self.client.send(chat("Authorization: Bearer a.b.c"))
        self.waiting[0].errback(Unauthorized())
        self.assertEqual(self.client.answer.status, 401)
        self.client.send(chat("Authorization: Bearer d.e.f"))
        self.waiting[1].errback(Unauthorized())
        self.assertEqual(self.client.answers()[-1].status, 429)

    def test_client_that_leaves_meanwhile_is_waited_for_no_longer(self) -> None:
        """One who leaves meanwhile is waited for no longer."""
        self.client.send(chat("Authorization: Bearer a.b.c"))
        self.client.close()
        self.assertTrue(self.waiting[0].called)
        self.assertEqual(self.running.outcomes, ["client_disconnected"])


class Rates(SynchronousTestCase):
    def standing(self, answer: Answer) -> tuple[str | None, ...]:
        return tuple(answer.headers.get(name) for name in (LIMIT, REMAINING, RESET))

    def test_request_over_the_rate_is_told_when_to_come_back(self) -> None:
        """N requests are let in, the next is a 429 that says when to come back, which is true."""
        running = Running(rate="2/minute")
        self.assertEqual([running.ask(MODELS).status for _ in range(2)], [200, 200])
        answer = running.ask(MODELS)
        self.assertEqual((answer.status, answer.code), (429, "rate_limit_exceeded"))
        self.assertEqual(answer.headers["retry-after"], "30")
        self.assertEqual(running.lines[-1]["outcome"], "rate_limited")
        running.wait(29.9)
        self.assertEqual(running.ask(MODELS).status, 429)
        running.wait(0.1)
        self.assertEqual(running.ask(MODELS).status, 200)

    def test_answers_say_how_their_caller_stands(self) -> None:
        """Every answer of a limited route says how its caller stands, as OpenAI does."""
        running = Running(rate="2/minute")
        self.assertEqual(self.standing(running.ask(MODELS)), ("2", "1", "30s"))
        self.assertEqual(self.standing(running.ask(chat())), ("2", "0", "1m0s"))
        self.assertEqual(self.standing(running.ask(chat())), ("2", "0", "1m0s"))

    def test_errors_and_streams_say_it_too(self) -> None:
        """So does every error of theirs, and a stream."""
        head = request("POST", CHAT, "Content-Type: application/json")
        for data, status in (
            (chat(stream=True), 200),
            (chat(stream=1), 400),
            (request("POST", CHAT, body=b"{}"), 415),
            (request("POST", CHAT, "Content-Length: 101"), 413),
        ):
            running = Running(rate="5/second", framing=Limits(body=100))
            answer = running.ask(data)
            self.assertEqual((answer.status, answer.headers[REMAINING]), (status, "4"), data)
        running = Running(rate="5/second", body_timeout=1)
        client = running.connect()
        client.send(head[:-2] + b"Content-Length: 5\r\n\r\n")
        running.wait(1.1)
        self.assertEqual((client.answer.status, client.answer.headers[REMAINING]), (408, "4"))
        running = Running(rate="5/second", backend=True)
        client = running.connect()
        client.send(chat())
        running.backend.answer(b"", status=500)
        self.assertEqual((client.answer.status, client.answer.headers[REMAINING]), (502, "4"))

    def test_other_routes_and_a_401_say_nothing_of_it(self) -> None:
        """A 401 says nothing of it, and neither do the routes that are not limited."""
        running = Running(rate="1/hour", keys=KEYS)
        for data in (
            MODELS,
            request("GET", "/healthz"),
            request("GET", "/readyz"),
            request("GET", "/nope"),
        ):
            answer = running.ask(data)
            self.assertEqual(self.standing(answer), (None, None, None), data)
        self.assertEqual(Running(rate="1/hour").get("/metrics").headers.get(LIMIT), None)

    def test_probes_and_metrics_are_never_limited(self) -> None:
        """Probes and metrics are never limited."""
        running = Running(rate="1/hour")
        for path in ("/healthz", "/readyz", "/metrics"):
            self.assertEqual([running.get(path).status for _ in range(3)], [200] * 3)

    def test_without_a_limit_nothing_is_said_of_one(self) -> None:
        """Without a limit nothing is said about one."""
        self.assertEqual(self.standing(Running().ask(MODELS)), (None, None, None))

    def test_without_keys_an_address_is_a_caller(self) -> None:
        """Without keys an address is a caller, and of IPv6 its network."""
        running = Running(rate="1/hour")
        for peer, status in (
            ("192.0.2.1", 200),
            ("192.0.2.2", 200),
            ("192.0.2.1", 429),
            ("2001:db8::1", 200),
            ("2001:db8::2", 429),
            ("2001:db8:0:1::1", 200),
        ):
            self.assertEqual(running.ask(MODELS, peer).status, status, peer)

    def test_forwarded_address_is_believed_of_trusted_proxies_alone(self) -> None:
        """X-Forwarded-For is believed of a trusted proxy only."""
        for trusted, second in ((None, 429), ("192.0.2.0/24", 200), ("203.0.113.0/24", 429)):
            running = Running(rate="1/hour", trusted=trusted)
            self.assertEqual(running.ask(models("X-Forwarded-For: 198.51.100.1")).status, 200)
            answer = running.ask(models("X-Forwarded-For: 198.51.100.2"))
            self.assertEqual(answer.status, second, trusted)
            seen = "198.51.100.2" if second == 200 else CLIENT
            self.assertEqual(running.lines[1]["client"], seen)

    def test_with_keys_a_caller_is_one_wherever_it_calls_from(self) -> None:
        """With keys a caller is one wherever it calls from, and callers share no limit."""
        running = Running(rate="1/hour", keys="bob:key-one,bob:key-two,eve:key-three")
        for peer, key, status in (
            ("192.0.2.1", "key-one", 200),
            ("192.0.2.2", "key-one", 429),
            ("192.0.2.2", "key-two", 429),
            ("192.0.2.1", "key-three", 200),
        ):
            data = models(f"Authorization: Bearer {key}")
            self.assertEqual(running.ask(data, peer).status, status, (peer, key))

    def test_caller_named_like_an_address_shares_nothing_with_it(self) -> None:
        """A caller who is named like an address or a bucket shares nothing with it."""
        running = Running(rate="1/hour", keys=f"{CLIENT}:key-one,refused:key-two")
        self.assertEqual(running.ask(MODELS).status, 401)
        for key in ("key-one", "key-two"):
            answer = running.ask(models(f"Authorization: Bearer {key}"), "192.0.2.9")
            self.assertEqual(answer.status, 200)

    def test_request_that_fails_later_has_been_counted_once(self) -> None:
        """A request that fails later has been counted, once."""
        running = Running(rate="3/hour")
        self.assertEqual(running.ask(chat(stream=1)).headers[REMAINING], "2")
        self.assertEqual(running.ask(MODELS).headers[REMAINING], "1")

    def test_refused_requests_cost_nothing(self) -> None:
        """A caller who keeps asking is let in when the time has come, and not later for it."""
        running = Running(rate="1/minute")
        running.ask(MODELS)
        for _ in range(59):
            running.wait(1)
            self.assertEqual(running.ask(MODELS).status, 429)
        running.wait(1)
        self.assertEqual(running.ask(MODELS).status, 200)


class Guessing(SynchronousTestCase):
    """Failed credentials are limited by the same rate, per address."""

    def guess(self, running: Running, peer: str = CLIENT, path: str = "/v1/models") -> Answer:
        return running.ask(request("GET", path, "Authorization: Bearer guess"), peer)

    def test_guessing_is_no_faster_than_the_rate(self) -> None:
        """Guessing is no faster than the limit, and the 429 says when to come back."""
        running = Running(keys=KEYS, rate="3/minute")
        self.assertEqual([self.guess(running).status for _ in range(3)], [401] * 3)
        answer = self.guess(running)
        self.assertEqual((answer.status, answer.headers["retry-after"]), (429, "20"))
        self.assertEqual((answer.headers[LIMIT], answer.headers[REMAINING]), ("3", "0"))
        self.assertEqual(self.guess(running, "192.0.2.2").status, 401)
        running.wait(20)
        self.assertEqual(self.guess(running).status, 401)

    def test_right_key_is_let_in_after_wrong_ones_from_its_address(self) -> None:
        """However many wrong keys came from an address, a right one from there is let in, and
        the wrong ones stay refused."""
        running = Running(keys=KEYS, rate="1/minute")
        self.assertEqual([self.guess(running).status for _ in range(3)], [401, 429, 429])
        answer = running.ask(models(BOB))
        self.assertEqual((answer.status, answer.headers[REMAINING]), (200, "0"))
        self.assertEqual(self.guess(running).status, 429)

    def test_missing_credentials_are_wrong_ones(self) -> None:
        """To come without credentials counts as to come with wrong ones."""
        running = Running(keys=KEYS, rate="1/minute")
        self.assertEqual([running.ask(MODELS).status for _ in range(2)], [401, 429])
        self.assertEqual(running.ask(models(BOB)).status, 200)

    def test_right_keys_take_nothing_from_the_bucket_of_wrong_ones(self) -> None:
        """A caller with a key takes nothing out of that bucket."""
        running = Running(keys=KEYS, rate="2/minute")
        running.ask(models(BOB))
        running.ask(models(BOB))
        self.assertEqual([self.guess(running).status for _ in range(3)], [401, 401, 429])

    def test_guessing_at_the_metrics_is_limited_too(self) -> None:
        """Guessing the key of the metrics is limited too, though they are not."""
        running = Running(keys=KEYS, rate="1/minute")
        self.assertEqual(self.guess(running, path="/metrics").status, 401)
        answer = self.guess(running, path="/metrics")
        self.assertEqual((answer.status, answer.headers.get(LIMIT)), (429, None))

    def test_without_a_rate_guessing_is_not_limited(self) -> None:
        """Without a limit there is none for this either."""
        running = Running(keys=KEYS)
        self.assertEqual([self.guess(running).status for _ in range(50)], [401] * 50)


class Together(SynchronousTestCase):
    def test_answer_of_the_backend_carries_the_standing_too(self) -> None:
        """What answers a request that was let in carries the caller's standing, backend or not."""
        running = Running(keys=KEYS, rate="9/hour", backend=True)
        client = running.connect()
        client.send(chat(BOB))
        running.backend.answer(completion())
        self.assertEqual((client.answer.status, client.answer.headers[REMAINING]), (200, "8"))


class Policed(SynchronousTestCase):
    """What a caller may do, asked of a whole gateway."""

    def running(self, policy: Policy, *, concurrent: int = 0, keys: str = KEYS) -> Running:
        running = Running(keys=keys)
        admission = running.gateway._admission
        admission.roster = attrs.evolve(admission.roster, policies=Policies(policy))
        admission._max_concurrent = concurrent
        return running

    def refused(self, running: Running, data: bytes, status: int, code: str) -> Answer:
        """A refusal that the backend never sees, and that says how the caller stands."""
        connections = len(running.port.connections)
        answer = running.ask(data)
        self.assertEqual((answer.status, answer.json["error"]), (status, code))
        self.assertEqual(len(running.port.connections), connections)
        return answer

    def test_address_that_is_not_allowed(self) -> None:
        """`from=` is judged before any limit is asked, and after the proxies that are trusted."""
        running = self.running(Policy(rate=Rate(1, 60), sources=parse_networks("10.0.0.0/8")))
        for _ in range(2):
            answer = self.refused(running, chat(BOB), 403, "address_not_allowed")
            self.assertEqual(answer.headers[REMAINING], "1")
        self.assertEqual(running.lines[0]["caller"], "bob")
        self.assertEqual(running.lines[0]["outcome"], "forbidden")

    def test_route_that_is_not_allowed(self) -> None:
        """`routes=` without chat shuts the operation, and not the list of models; the metrics are
        open to a key that names them, or that has no such option."""
        running = self.running(Policy(routes=frozenset({"embeddings"})))
        answer = self.refused(running, chat(BOB), 403, "route_not_allowed")
        self.assertIn("routes=", answer.json["message"])
        self.refused(running, request("GET", "/metrics", BOB), 403, "route_not_allowed")
        running = self.running(Policy(routes=frozenset({"metrics"})))
        self.assertEqual(running.ask(request("GET", "/metrics", BOB)).status, 200)

    def test_model_that_is_not_allowed(self) -> None:
        """A pattern is for the whole name."""
        running = self.running(Policy(models=("qwen*",)))
        self.refused(running, chat(BOB, model="gemma"), 403, "model_not_allowed")
        self.refused(running, chat(BOB, model="my-qwen"), 403, "model_not_allowed")
        self.assertEqual(running.ask(chat(BOB, model="qwen/3")).status, 200)

    def test_models_that_are_not_allowed_are_not_listed(self) -> None:
        """A caller sees those that it may name."""
        running = self.running(Policy(models=("qwen*",)))
        self.assertEqual(running.ask(models(BOB)).json["data"], [])
        running = self.running(Policy(models=("*",)))
        self.assertEqual(len(running.ask(models(BOB)).json["data"]), 1)

    def test_rate_of_its_own(self) -> None:
        """The message names the option and, where it is long until then, the time in UTC; then
        the SDKs are told not to wait for it."""
        running = self.running(Policy(rate=Rate(1, 3600), rate_set_by="rate"))
        running.ask(chat(BOB))
        answer = self.refused(running, chat(BOB), 429, "rate_limit_exceeded")
        self.assertIn("rate=1/hour is used up. Come back at ", answer.json["message"])
        self.assertEqual(answer.headers["retry-after"], "3600")
        self.assertEqual(answer.headers["x-should-retry"], "false")

    def test_tokens_are_charged_when_the_exchange_ends(self) -> None:
        """The one that uses the budget up is served whole, the next one is refused."""
        running = self.running(Policy(tokens=(TokenLimit(5, "month"),)))
        first = running.ask(chat(BOB))
        self.assertEqual(first.headers["x-ratelimit-remaining-tokens"], "5")
        self.assertEqual(running.lines[0]["total_tokens"], 3)  # "hello", and "Echo: hello"
        second = running.ask(chat(BOB))
        self.assertEqual(second.headers["x-ratelimit-remaining-tokens"], "2")
        answer = self.refused(running, chat(BOB), 429, "token_limit_exceeded")
        self.assertIn("tokens=5/month is used up", answer.json["message"])
        self.assertEqual(answer.headers["x-ratelimit-remaining-tokens"], "0")
        self.assertEqual(running.ask(models(BOB)).status, 200)

    def test_places_are_free_when_the_exchange_ends(self) -> None:
        """`concurrent=1` refuses a second one while the first is at the backend, and none after it,
        however that ended."""
        running = Running(keys=KEYS, backend=True)
        admission = running.gateway._admission
        policies = Policies(Policy(concurrent=1))
        admission.roster = attrs.evolve(admission.roster, policies=policies)
        first = running.connect()
        first.send(chat(BOB))
        self.refused(running, chat(BOB), 429, "concurrency_limit_exceeded")
        first.close()
        running.wait(1)
        second = running.connect()
        second.send(chat(BOB))
        self.assertEqual(len(running.port.connections), 2)
        self.assertEqual(admission._places.all_taken, 1)

    def test_places_of_the_whole_gateway(self) -> None:
        """`MAX_CONCURRENT_REQUESTS` is for all callers together."""
        running = Running(keys=KEYS, backend=True)
        running.gateway._admission._max_concurrent = 1
        running.connect().send(chat(BOB))
        other = "Authorization: Bearer key-of-nobody"
        answer = self.refused(running, chat(other), 503, "overloaded")
        self.assertIn("MAX_CONCURRENT_REQUESTS=1", answer.json["message"])
        self.assertEqual(answer.headers["retry-after"], "1")

    def test_person_behind_a_key_has_limits_of_its_own(self) -> None:
        """The log says NAME/VALUE; a name that is none, or is there twice, is NAME."""
        running = self.running(Policy(rate=Rate(1, 60), user_field=b"x-user"))
        for fields, caller in (
            (("X-User: ann@example.org",), "bob/ann@example.org"),
            (("X-User: ben",), "bob/ben"),
            ((), "bob"),
        ):
            self.assertEqual(running.ask(chat(BOB, *fields)).status, 200)
            self.assertEqual(running.lines[-1]["caller"], caller)
        for fields in (("X-User: a b",), ("X-User: " + "a" * 129,), ("X-User: a", "X-User: b")):
            self.assertEqual(running.ask(chat(BOB, *fields)).status, 429)
            self.assertEqual(running.lines[-1]["caller"], "bob")

    def test_running_exchange_keeps_what_it_began_with(self) -> None:
        """A reload that takes the model away ends no stream, and the next request is refused."""
        running = self.running(Policy(models=("a",)))
        admission = running.gateway._admission
        body = chat_body(model="a")
        client = running.connect()
        data = request("POST", CHAT, BOB, "Content-Type: application/json", body=body)
        client.send(data[:-1])
        admission.roster = attrs.evolve(admission.roster, policies=Policies(Policy(models=("b",))))
        client.send(data[-1:])
        self.assertEqual(running.lines[-1]["status"], 200)
        self.refused(running, chat(BOB, model="a"), 403, "model_not_allowed")


class OwnUsage(SynchronousTestCase):
    """``GET /v1/usage``."""

    def test_open_to_every_key_and_never_limited(self) -> None:
        """Not even `routes=` shuts it, nor does it take from the rate."""
        running = Running(keys=KEYS)
        admission = running.gateway._admission
        policy = Policy(rate=Rate(1, 60), routes=frozenset({"metrics"}), rate_set_by="rate")
        admission.roster = attrs.evolve(admission.roster, policies=Policies(policy))
        for _ in range(3):
            answer = running.ask(request("GET", "/v1/usage", BOB))
            self.assertEqual((answer.status, answer.json["caller"]), (200, "bob"))
            (limit,) = answer.json["limits"]
            self.assertEqual((limit["limit"], limit["remaining"]), ("rate=1/minute", 1))
        self.assertEqual(answer.json["usage"], {"day": None, "month": None})
        self.assertEqual(running.ask(request("GET", "/v1/usage")).status, 401)
        self.assertEqual(running.lines[0]["path"], "/v1/usage")
