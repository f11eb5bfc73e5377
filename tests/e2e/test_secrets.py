"""Twelve secrets go down every path on which something fails, and come out nowhere."""

from __future__ import annotations

import base64
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.faulty_backend import (
    CLOSE,
    DONE,
    HOLD,
    RESET,
    STREAM_HEAD,
    FaultyBackend,
    chunk,
    completion,
    delta,
    head,
    whole,
)
from tests.e2e.harness import OFF, gateway, get, post, running
from tests.e2e.test_settings import failed_start
from tests.e2e.wire import receive

skip = OFF

CHAT = "/v1/chat/completions"

SECRETS = {
    name: f"CANARY-of-the-{name}-0123456789"
    for name in (
        "inline-key",
        "key-in-the-file",
        "jwt-secret-that-is-long-enough",
        "wrong-key",
        "backend-key",
        "prompt",
        "reply",
        "password-in-a-url",
        "query",
        "cookie",
        "dotenv",
    )
}
"""And the twelfth: a token."""


def exchanges(port: int, requests: dict[str, bytes]) -> dict[str, bytes]:
    """All bytes of the answer to each request, on a connection of its own."""

    def exchange(request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 15) as connection:
            connection.sendall(request)
            answer = receive(connection, 15)
        return b"%d %r " % (answer.status, answer.fields) + answer.body

    with ThreadPoolExecutor(8) as pool:
        return dict(zip(requests, pool.map(exchange, requests.values()), strict=True))


class SecretTests(SynchronousTestCase):
    def assertNone(self, secrets: dict[str, str], text: str, where: str) -> None:
        found = [name for name, secret in secrets.items() if secret in text]
        self.assertEqual(found, [], f"found in {where}")

    def test_canaries(self) -> None:
        """No secret is in an error's answer, in the log, or in a metric, whatever fails."""
        secret, jwt_secret = SECRETS, SECRETS["jwt-secret-that-is-long-enough"]
        token = jwt.encode({"sub": "me", "exp": time.time() + 300}, jwt_secret)
        expired = jwt.encode({"sub": "me", "exp": 1}, jwt_secret)
        page = f"<html>{secret['reply']} {secret['backend-key']}</html>".encode()
        refused = json.dumps({"error": {"message": f"Wrong key: {secret['backend-key']}"}}).encode()
        said = delta(content=secret["reply"])
        scripts = {
            "page-500": [whole(page, status=b"500 x")],
            "page-200": [whole(page)],
            "page-400": [whole(page, status=b"400 x")],
            "key-401": [whole(refused, status=b"401 x")],
            "key-403": [whole(refused, status=b"403 x")],
            "redirect": [head(b"302 x", b"Location: http://x/" + secret["backend-key"].encode())],
            "status-line": [page],
            "reset": [RESET],
            "closed": [CLOSE],
            "silent": [HOLD],
            "cut": [whole(completion(x=secret["reply"]))[:-9], CLOSE],
            "cut-json": [whole(completion(x=secret["reply"])[:-9])],
            "no-completion": [whole(json.dumps({"x": secret["reply"]}).encode())],
            "first-event": [STREAM_HEAD + chunk(said[:-9]), CLOSE],
        }
        backend = FaultyBackend((whole(completion(x=secret["reply"])),), scripts)
        self.addCleanup(backend.stop)
        settings = {
            "BACKEND_URL": backend.url,
            "BACKEND_API_KEY": secret["backend-key"],
            "BACKEND_TIMEOUT": "1",
            "BODY_TIMEOUT": "1",
            "HEADER_TIMEOUT": "1",
            "API_KEYS": f"ann:{secret['inline-key']}",
            "API_KEYS_FILE": "keys",
            "LOG_LEVEL": "debug",
            "RATE_LIMIT": "1000/hour",
        }
        files = {
            "keys": f"bob:{secret['key-in-the-file']}",
            ".env": f"JWT_SECRET={jwt_secret}\nUNKNOWN={secret['dotenv']}\n",
        }
        messages = [{"role": "user", "content": secret["prompt"]}]
        more = (f"Cookie: {secret['cookie']}", f"X-Request-ID: {secret['cookie']} no id")
        key = f"Authorization: Bearer {secret['inline-key']}"

        def request(*fields: str, **members: object) -> bytes:
            return post({"messages": messages, **members}, *fields, *more)

        good = request(key)
        wrong = f"Authorization: Bearer {secret['wrong-key']}"
        no_json = json.dumps({"messages": messages}).encode()[:-1]
        requests = {
            **{name: request(key, f"X-Request-ID: {name}") for name in scripts},
            "first-event": request(key, "X-Request-ID: first-event", stream=True),
            "wrong key": request(wrong),
            "two keys": request(key, key),
            "list of keys": request(f"{key}, {secret['inline-key']}"),
            "key of another scheme": request(key.replace("Bearer", "Basic")),
            "password of another scheme": request(
                "Authorization: Basic " + base64.b64encode(secret["wrong-key"].encode()).decode()
            ),
            "expired token": request(f"Authorization: Bearer {expired}"),
            "forged token": request(f"Authorization: Bearer {token[:-4]}AAAA"),
            "no JSON": post(no_json, key),
            "no UTF-8": post(no_json + b"\xff", key),
            "no object": post(json.dumps([secret["prompt"]]).encode(), key),
            "messages": post({"messages": secret["prompt"]}, key),
            "role": post({"messages": [{"role": 5, secret["prompt"]: secret["prompt"]}]}, key),
            "content": post(
                {"messages": [{"role": "user", "content": {"x": secret["prompt"]}}]}, key
            ),
            "repeated": post(
                b'{"messages":[{"role":"user","content":"%b","content":""}]}'
                % secret["prompt"].encode(),
                key,
            ),
            "stop": request(key, stop=[secret["prompt"], 5]),
            "stream": request(key, stream=secret["prompt"]),
            "max_tokens": request(key, max_tokens=secret["prompt"]),
            "stream_options": request(key, stream_options=secret["prompt"]),
            "media type": good.replace(b"application/json", secret["prompt"].encode()),
            "content coding": request(key, f"Content-Encoding: {secret['prompt']}"),
            "expectation": request(key, f"Expect: {secret['prompt']}"),
            "too large": good.replace(b"Content-Length: ", b"Content-Length: 9999999"),
            "no number": good.replace(b"Content-Length: ", b"Content-Length: x"),
            "coding": request(key, f"Transfer-Encoding: {secret['prompt']}"),
            "no host": good.replace(b"Host: test\r\n", b""),
            "a host": good.replace(
                b"Host: test", b"Host: u:" + secret["password-in-a-url"].encode()
            ),
            "control byte": request(key, "A: \x01" + secret["cookie"]),
            "no field": request(key, secret["cookie"]),
            "large head": request(key, "A: " + secret["cookie"] * 600),
            "version": good.replace(b"HTTP/1.1", b"HTTP/2.0"),
            "slow": good[:-5],
            "slow head": good[:99],
            "no request": secret["cookie"].encode() + b"\r\n\r\n",
            "query": good.replace(b" /v1", f" /nowhere?key={secret['query']}&x=/v1".encode()),
            "long query": good.replace(b" /v1", f" /?{secret['query'] * 300}".encode()),
            "method": good.replace(b"POST", b"DELETE").replace(
                CHAT.encode(), f"{CHAT}?{secret['query']}".encode()
            ),
            "absolute": good.replace(
                b" /v1", f" http://user:{secret['password-in-a-url']}@host/v1".encode()
            ),
        }
        served = gateway(settings, files=files)
        with running(served):
            answers = exchanges(served.port, requests)
            for name, answer in answers.items():
                self.assertRegex(answer, b"^[45]", name)
            # What succeeds, and what breaks off, may show the reply and nothing else.
            backend.scripts["broken"] = [STREAM_HEAD + chunk(said), RESET]
            backend.scripts["whole"] = [STREAM_HEAD + chunk(said + DONE)]
            streams = exchanges(
                served.port,
                {
                    name: request(
                        f"Authorization: Bearer {token}", f"X-Request-ID: {name}", stream=True
                    )
                    for name in ("broken", "whole")
                },
            )
            metrics = get(served.url + "/metrics", {"Authorization": f"Bearer {token}"})[2]
            self.assertEqual(served.complaints(), [])
            served.stop()
        secrets = {**secret, "token": token, "signature": token.rpartition(".")[2]}
        self.assertEqual(len(secret) + 1, 12)
        # The 415 names the coding that it refuses: the client's own word, and no log has it.
        answers.pop("content coding")
        for name, answer in answers.items():
            self.assertNone(secrets, answer.decode("latin-1"), f"the answer to {name}")
        hidden = {name: text for name, text in secrets.items() if name != "reply"}
        for name, answer in streams.items():
            self.assertNone(hidden, answer.decode("latin-1"), f"the answer to {name}")
        self.assertNone(secrets, metrics.decode(), "the metrics")
        self.assertNone(secrets, served.log_text(), "the log")
        self.assertGreater(served.log_text().count('"event":"request"'), len(requests))

    def test_failed_start(self) -> None:
        """A start that fails shows no secret either, its own or that of another setting."""
        secret = SECRETS
        good = {"API_KEYS": secret["inline-key"], "BACKEND_API_KEY": secret["backend-key"]}
        jwt_secret = secret["jwt-secret-that-is-long-enough"]
        cases: list[tuple[dict[str, str], tuple[str, ...], str | None]] = [
            ({"PORT": "x", **good, "JWT_SECRET": jwt_secret}, (), None),
            ({**good, "API_KEYS": f"a:ok,\n:{secret['inline-key']}"}, (), None),
            ({"BACKEND_API_KEY": secret["backend-key"] + "é"}, (), None),
            ({"BACKEND_URL": f"http://u:{secret['password-in-a-url']}@host"}, (), None),
            ({"JWT_JWKS_URL": f"http://host/#{secret['query']}"}, (), None),
            ({}, (), f"API_KEYS='{secret['dotenv']}\n"),
            ({}, (f"--api-keys=,:{secret['inline-key']}", "--host=("), None),
        ]
        with ThreadPoolExecutor(3) as pool:
            ended = list(pool.map(lambda c: failed_start(c[0], *c[1], dotenv=c[2]), cases))
        for status, out, error in ended:
            self.assertEqual((status, error.count("\n")), (1, 1), error)
            self.assertNone(secret, out + error, error.partition(":")[0])
