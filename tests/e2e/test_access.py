"""Who is let in, under which name, and how often."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.e2e.faulty_backend import FaultyBackend, completion, whole
from tests.e2e.harness import OFF, Process, SharedProcesses, chat, gateway, get, post, running
from tests.e2e.wire import Answer, ask, receive

skip = OFF

CHAT = "/v1/chat/completions"
LIMITS = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests")
SECRET = "a-secret-long-enough-for-the-longest-of-the-hashes-that-jwt-knows"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def claims(**others: Any) -> dict[str, Any]:
    return {"sub": "someone", "exp": time.time() + 300, **others}


def pem(private: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public: bytes = private.public_key().public_bytes(serialization.Encoding.PEM, form)
    return public.decode()


class AccessCase(SharedProcesses):
    gateway: Process
    _number = 0

    def asked(self, *fields: str, **members: Any) -> tuple[Answer, dict[str, Any]]:
        """The answer to a chat request, and the line about it."""
        AccessCase._number += 1
        request_id = f"access-{AccessCase._number}"
        answer = ask(self.gateway.port, request_id, *fields, **members)
        return answer, self.gateway.request_line(request_id)

    def caller(self, token: str, scheme: str = "Bearer") -> str | None:
        """Who the token lets in as; None where it does not."""
        answer, line = self.asked(f"Authorization: {scheme} {token}")
        if answer.status == 401:
            self.assertEqual(line["outcome"], "unauthorized")
            self.assertIsNone(line["caller"])
            return None
        self.assertEqual(answer.status, 200)
        name: str = line["caller"]
        return name


class KeyTests(AccessCase):
    """API keys in all their forms, beside a JWT secret, with errors in OpenAI's form."""

    backend: FaultyBackend

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        cls.backend = FaultyBackend((whole(completion()),))
        stack.callback(cls.backend.stop)
        inline = ["bare", "alice:s3cret", f"sha256:{digest('hashed')}"]
        inline += [f"bob:sha256:{digest('bobs').upper()}", "alice:new:key"]
        lines = ["# comment", "", "from-file", f"  carol:sha256:{digest('carols')}  "]
        cls.gateway = gateway(
            {
                "BACKEND_URL": cls.backend.url,
                "API_KEYS": ", ".join(inline),
                "API_KEYS_FILE": "keys",
                "JWT_SECRET": SECRET,
                "ERROR_FORMAT": "openai",
            },
            files={"keys": "\n".join(lines)},
        )
        stack.enter_context(running(cls.gateway))

    def test_forms(self) -> None:
        """A key may be bare, named, digested, or both; inline or in the file."""
        for key, name in (
            ("bare", f"key-{digest('bare')[:8]}"),
            ("s3cret", "alice"),
            ("new:key", "alice"),
            ("hashed", f"key-{digest('hashed')[:8]}"),
            ("bobs", "bob"),
            ("from-file", f"key-{digest('from-file')[:8]}"),
            ("carols", "carol"),
        ):
            self.assertEqual(self.caller(key), name)

    def test_schemes(self) -> None:
        """`Bearer` and `Api-Key` in any case, and any number of spaces after them."""
        for scheme in ("Bearer", "bearer", "BEARER", "Api-Key", "API-KEY", "api-key", "Bearer   "):
            self.assertEqual(self.caller("s3cret", scheme), "alice", scheme)

    def test_refused(self) -> None:
        """No or wrong credentials are a 401 that says nothing of why."""
        digested = f"sha256:{digest('hashed')}"
        bodies = set()
        for fields in (
            (),
            ("Authorization: Bearer wrong",),
            ("Authorization: Bearer",),
            ("Authorization: Bearer ",),
            ("Authorization: ",),
            ("Authorization: Basic YTpi",),
            ("Authorization: s3cret",),
            ("Authorization: Bearer alice:s3cret",),
            (f"Authorization: Bearer {digested}",),
            (f"Authorization: Bearer {digest('hashed')}",),
            ("Authorization: Bearer s3cret, Bearer s3cret",),
            ("Authorization: Bearer s3cret s3cret",),
            ("Authorization: Bearer s3cret", "Authorization: Bearer s3cret"),
            ("Authorization: Bearer s3cr\xe9t",),
            ("Authorization: Bearer\ts3cret",),
            ("Authorization: Bearer " + "x" * 8193,),
            ("Authorization: Bearer a.b.c",),
            ("Proxy-Authorization: Bearer s3cret",),
            ("X-Api-Key: wrong",),
            ("Api-Key: Bearer s3cret",),
            ("X-Api-Key: wrong", "Api-Key: s3cret"),
            ("Authorization: Bearer wrong", "X-Api-Key: s3cret"),
        ):
            answer, line = self.asked(*fields)
            self.assertEqual(answer.status, 401, fields)
            self.assertEqual(answer.fields["www-authenticate"], "Bearer")
            self.assertFalse(set(LIMITS) & set(answer.fields))
            self.assertEqual((line["outcome"], line["caller"]), ("unauthorized", None))
            document = answer.document
            self.assertEqual(document.pop("request_id"), line["request_id"])
            bodies.add(json.dumps(document))
            self.assertNotIn(line["request_id"], self.backend.exchanges)
        (body,) = bodies
        error = json.loads(body)["error"]
        self.assertEqual(error["code"], "unauthorized")
        self.assertEqual(error["type"], "authentication_error")

    def test_refused_before_the_body(self) -> None:
        """Wrong credentials are refused by the head alone."""
        head, _, _ = post({"n": 1}, "X-Request-ID: early", "Expect: 100-continue").partition(
            b"\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.gateway.port), 10) as connection:
            connection.sendall(head + b"\r\n\r\n")
            self.assertEqual(receive(connection, 5).status, 401)

    def test_routes(self) -> None:
        """Chats, models and metrics need a key; health and readiness do not."""
        key = {"Authorization": "Api-Key bare"}
        for path, without in (
            ("/v1/models", 401),
            ("/metrics", 401),
            ("/healthz", 200),
            ("/readyz", 200),
            ("/nowhere", 404),
        ):
            url = self.gateway.url + path
            self.assertEqual(get(url)[0], without, path)
            self.assertEqual(get(url, key)[0], 404 if path == "/nowhere" else 200, path)

    def test_jwt(self) -> None:
        """A token signed with the secret lets its `sub` in, by HS256 alone, until it expires."""

        def token(key: Any = SECRET, algorithm: str = "HS256", **header: Any) -> Callable[..., str]:
            return lambda **changed: jwt.encode(claims(**changed), key, algorithm, header)

        good = token()
        self.assertEqual(self.caller(good()), "someone")
        self.assertEqual(self.caller(good(), "Api-Key"), "someone")
        self.assertEqual(self.caller(good(exp=time.time() - 20)), "someone")  # within the leeway
        for name, wrong in {
            "expired": good(exp=time.time() - 40),
            "no exp": jwt.encode({"sub": "someone"}, SECRET),
            "no sub": jwt.encode({"exp": time.time() + 300}, SECRET),
            "not yet": good(nbf=time.time() + 60),
            "other secret": token(SECRET + "x")(),
            "HS512": token(algorithm="HS512")(),
            "none": jwt.encode(claims(), None, "none"),
            "crit": token(crit=["exp"])(),
            "jwk": token(jwk={"kty": "oct", "k": "eA"})(),
            "cut": good()[:-2],
            "changed": good().replace(".", ".e", 1),
        }.items():
            self.assertIsNone(self.caller(wrong), name)

    def test_error_format(self) -> None:
        """`ERROR_FORMAT=openai` gives every error the form that the OpenAI SDKs print in full, and
        an error of the backend's its own object, whole."""
        key = "Authorization: Bearer bare"
        refusal = whole(b'{"error": {"message": "No such model.", "x": 1}}', status=b"404 x")
        self.backend.scripts["openai-rejected"] = (refusal,)
        self.backend.scripts["openai-failed"] = (whole(b"{}", status=b"500 x"),)
        for request_id, members, status, code, kind, param in (
            ("openai-schema", {"n": 0}, 400, "invalid_n", "invalid_request_error", "n"),
            ("openai-failed", {}, 502, "backend_error", "server_error", None),
        ):
            answer = ask(self.gateway.port, request_id, key, **members)
            document = answer.document
            self.assertEqual(answer.status, status)
            self.assertEqual(document["request_id"], request_id)
            error = document["error"]
            self.assertEqual(set(error), {"message", "type", "code", "param"})
            found = (error["code"], error["type"], error["param"])
            self.assertEqual(found, (code, kind, param))
        answer = ask(self.gateway.port, "openai-rejected", key)
        self.assertEqual(answer.status, 404)
        self.assertEqual(answer.document["error"], {"message": "No such model.", "x": 1})
        answer = ask(self.gateway.port, "openai-json", key, body=b"{")
        self.assertEqual(answer.document["error"]["code"], "invalid_json")

    def test_no_complaint(self) -> None:
        """Nothing that a caller shows for a key is an error of the gateway's."""
        self.assertEqual(self.gateway.complaints(), [])


class PublicKeyTests(AccessCase):
    private: rsa.RSAPrivateKey

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        cls.private = rsa.generate_private_key(65537, 2048)
        settings = {"JWT_PUBLIC_KEY_FILE": "key.pem", "JWT_ISSUER": "me", "JWT_AUDIENCE": "you"}
        cls.gateway = gateway(settings, files={"key.pem": pem(cls.private)})
        stack.enter_context(running(cls.gateway))

    def test_jwt(self) -> None:
        """A token signed with the private key lets in, if issuer and audience are right."""

        def token(algorithm: str = "RS256", key: Any = self.private, **changed: Any) -> str:
            return jwt.encode(claims(**{"iss": "me", "aud": "you", **changed}), key, algorithm)

        self.assertEqual(self.caller(token()), "someone")
        self.assertEqual(self.caller(token(aud=["they", "you"])), "someone")
        other = rsa.generate_private_key(65537, 2048)
        for name, wrong in {
            "issuer": token(iss="you"),
            "audience": token(aud="me"),
            "algorithm": token("PS256"),
            "key": token(key=other),
            "public key as a secret": self.confused(),
        }.items():
            self.assertIsNone(self.caller(wrong), name)

    def confused(self) -> str:
        """A token whose secret is the public key, which PyJWT would not make."""

        def part(document: dict[str, Any]) -> bytes:
            return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=")

        signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims(iss="me", aud="you"))
        made = hmac.digest(pem(self.private).encode(), signed, "sha256")
        return (signed + b"." + base64.urlsafe_b64encode(made).rstrip(b"=")).decode()


class _Keys(http.server.BaseHTTPRequestHandler):
    document: dict[str, Any]
    fetched: list[str]

    def do_GET(self) -> None:
        self.fetched.append(self.path)
        body = json.dumps(self.document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing on stderr."""


class KeySetTests(AccessCase):
    private: ec.EllipticCurvePrivateKey
    fetched: list[str]

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        cls.private = ec.generate_private_key(ec.SECP256R1())
        key = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(cls.private.public_key()))
        cls.fetched = []
        served = {"document": {"keys": [{**key, "kid": "one"}]}, "fetched": cls.fetched}
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Keys", (_Keys,), served))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        url = f"http://127.0.0.1:{server.server_port}/jwks?a=b"
        cls.gateway = gateway({"JWT_JWKS_URL": url, "JWT_ALGORITHMS": "ES256,RS256"})
        stack.enter_context(running(cls.gateway))

    def test_jwks(self) -> None:
        """Keys are fetched from `JWT_JWKS_URL` when one is needed, and not for each stranger."""

        def token(kid: str) -> str:
            return jwt.encode(claims(), self.private, "ES256", {"kid": kid})

        self.assertEqual(self.caller(token("one")), "someone")
        for kid in ("two", "three", "four"):
            self.assertIsNone(self.caller(token(kid)))
        self.assertEqual(self.caller(token("one")), "someone")
        self.assertEqual(self.fetched, ["/jwks?a=b"])
        self.assertEqual(self.gateway.complaints(), [])


class RateTests(AccessCase):
    """Two requests an hour, for each key, or for each address of one that has none."""

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        settings = {"RATE_LIMIT": "2/hour", "TRUSTED_PROXIES": "127.0.0.1,10.0.0.0/8"}
        cls.gateway = gateway(settings)
        cls.keyed = gateway({**settings, "API_KEYS": "ann:a,bea:b,cat:c"})
        stack.enter_context(running(cls.gateway, cls.keyed))

    keyed: Process

    def test_limit(self) -> None:
        """The burst is let in; what is over it is told when to come back."""
        client = "X-Forwarded-For: 192.0.2.1"
        answers = [self.asked(client)[0] for _ in range(3)]
        self.assertEqual([answer.status for answer in answers], [200, 200, 429])
        for answer, remaining in zip(answers, ("1", "0", "0"), strict=True):
            self.assertEqual([answer.fields[name] for name in LIMITS], ["2", remaining])
            self.assertRegex(
                answer.fields["x-ratelimit-reset-requests"], r"^(30m0s|1h0m0s|59m\d+s)$"
            )
        refused = answers[-1]
        self.assertEqual(refused.code, "rate_limit_exceeded")
        self.assertTrue(1790 <= int(refused.fields["retry-after"]) <= 1800)
        _, line = self.asked(client)
        self.assertEqual((line["outcome"], line["client"]), ("rate_limited", "192.0.2.1"))

    def test_errors_carry_the_limit_too(self) -> None:
        """Every answer of a limited route says how its caller stands."""
        client = "X-Forwarded-For: 192.0.2.2"
        for members, status in (({"n": 0}, 400), ({"body": b"{"}, 400), ({"n": 0}, 429)):
            answer, _ = self.asked(client, **members)
            self.assertEqual(answer.status, status)
            self.assertEqual(answer.fields[LIMITS[0]], "2")
        _, fields, _ = get(self.gateway.url + "/v1/models", {"X-Forwarded-For": "192.0.2.3"})
        self.assertEqual(fields[LIMITS[1]], "1")

    def test_streams_carry_the_limit_too(self) -> None:
        """So does a stream."""
        answer, _ = self.asked("X-Forwarded-For: 192.0.2.4", stream=True)
        self.assertEqual([answer.fields[name] for name in LIMITS], ["2", "1"])

    def test_free_routes(self) -> None:
        """Health, readiness and metrics are never limited."""
        for path in ("/healthz", "/readyz", "/metrics"):
            for _ in range(4):
                client = {"X-Forwarded-For": "192.0.2.5"}
                status, fields, _ = get(self.gateway.url + path, client)
                self.assertEqual(status, 200)
                self.assertNotIn(LIMITS[0], fields)

    def test_forged_address(self) -> None:
        """What a client writes into `X-Forwarded-For` before the proxies do is not believed."""
        statuses = []
        for forged in ("198.51.100.1", "198.51.100.2", "not an address"):
            chain = f"X-Forwarded-For: {forged}, 192.0.2.6, 10.1.2.3"
            answer, line = self.asked(chain)
            statuses.append(answer.status)
            self.assertEqual(line["client"], "192.0.2.6")
        self.assertEqual(statuses, [200, 200, 429])

    def test_network_of_ipv6(self) -> None:
        """The addresses of one IPv6 /64 network are one client."""
        statuses = [
            self.asked(f"X-Forwarded-For: 2001:db8:0:1::{host}")[0].status for host in "123"
        ]
        self.assertEqual(statuses, [200, 200, 429])

    def test_callers(self) -> None:
        """A caller with a key is limited by its name, wherever it comes from."""

        def status(key: str, address: str) -> int:
            fields = {"Authorization": f"Bearer {key}", "X-Forwarded-For": address}
            return chat(self.keyed.url, {}, fields)[0]

        found = [status("a", f"192.0.2.{host}") for host in range(3)]
        self.assertEqual(found, [200, 200, 429])
        self.assertEqual(status("b", "192.0.2.0"), 200)

    def test_wrong_keys(self) -> None:
        """Wrong keys are limited by address, and lock no right one out."""

        def answer(key: str) -> tuple[int, dict[str, str]]:
            fields = {"Authorization": f"Bearer {key}", "X-Forwarded-For": "192.0.2.99"}
            status, headers, _ = chat(self.keyed.url, {}, fields)
            return status, headers

        self.assertEqual([answer(wrong)[0] for wrong in "xyz"], [401, 401, 429])
        self.assertEqual(answer("c")[0], 200)
        status, headers = answer("z")
        self.assertEqual((status, LIMITS[0] in headers), (429, True))
        self.assertGreaterEqual(int(headers["retry-after"]), 1)
