"""One record into every figure."""

from __future__ import annotations

import platform

from prometheus_client import generate_latest
from twisted.trial.unittest import SynchronousTestCase

import twisted
from infergate import __version__
from infergate.api.operations import CHAT
from infergate.api.usage import NO_USAGE, Usage
from infergate.errors import BackendError, GatewayError, NotFound
from infergate.telemetry.batch import Batch
from infergate.telemetry.metrics import MAX_MODELS, Metrics
from infergate.telemetry.record import Record

GEN_AI = {"gen_ai_operation_name", "gen_ai_request_model", "error_type"}
CONTRACT = {
    "http_server_request_duration_seconds": {
        "http_route",
        "http_request_method",
        "http_response_status_code",
        "error_type",
    },
    "gen_ai_server_request_duration_seconds": GEN_AI,
    "gen_ai_server_time_to_first_token_seconds": GEN_AI,
    "gen_ai_server_time_per_output_token_seconds": GEN_AI,
    "gen_ai_client_token_usage": {"gen_ai_token_type", "gen_ai_request_model"},
    "infergate_requests_total": {"route", "status", "outcome"},
    "infergate_requests_in_flight": set(),
    "infergate_streams_in_flight": set(),
    "infergate_overhead_seconds": set(),
    "infergate_limited_total": {"limit"},
    "infergate_reactor_lag_seconds": set(),
    "infergate_build_info": {"version", "python", "twisted"},
}


class Accounts(SynchronousTestCase):
    def setUp(self) -> None:
        self.batch = Batch()
        self.metrics = Metrics(self.batch)

    def record(self, **known: object) -> Record:
        record = Record(opened=100.0, client="192.0.2.1", request_id="id-1")
        record.method, record.path, record.route = "POST", CHAT.path, CHAT.path
        record.operation = CHAT.name
        record.model, record.model_accepted, record.status = "tiny", True, 200
        for name, value in known.items():
            setattr(record, name, value)
        return record

    def failed(self, error: GatewayError) -> dict[str, object]:
        return {"error": error.code, "outcome": error.outcome}

    def account(self, *, until: float = 104.0, **known: object) -> Record:
        record = self.record(**known)
        self.metrics.began(record)
        record.close(until)
        self.batch.add([record])
        return record

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def labels(self, name: str) -> set[str]:
        """The values that a label has anywhere."""
        return {
            sample.labels[name]
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if name in sample.labels
        }

    def stream(self, **known: object) -> Record:
        """Four seconds, of which three in the backend and one to the first of four tokens."""
        return self.account(
            stream=True,
            first_token=101.0,
            usage=Usage(7, 4, 11, "backend"),
            backend_began=100.5,
            backend_ended=103.5,
            **known,
        )


class Figures(Accounts):
    def test_names(self) -> None:
        """The names and labels are those that dashboards are written against, and no others."""
        self.stream()
        found: dict[str, set[str]] = {}
        for family in self.metrics.registry.collect():
            for sample in family.samples:
                if sample.name.startswith("process_"):
                    continue
                ends = {"counter": "_total", "info": "_info"}
                name = family.name + ends.get(family.type, "")
                self.assertIn(
                    sample.name.removeprefix(name),
                    ("", "_bucket", "_count", "_sum") if family.type == "histogram" else ("",),
                )
                found.setdefault(name, set()).update(set(sample.labels) - {"le"})
        self.assertEqual(found, CONTRACT)

    def test_each_metric_is_of_the_kind_that_its_name_says(self) -> None:
        """What counts only goes up, what measures has buckets, what is under way goes up and
        down."""
        kinds = {family.name: family.type for family in self.metrics.registry.collect()}
        self.assertEqual(kinds.pop("infergate_build"), "info")
        for name in ("requests", "caller_requests", "caller_tokens", "limited"):
            self.assertEqual(kinds.pop(f"infergate_{name}"), "counter")
        for name in ("infergate_requests_in_flight", "infergate_streams_in_flight"):
            self.assertEqual(kinds.pop(name), "gauge")
        self.assertEqual(kinds.pop("process_cpu_seconds"), "counter")
        for name in ("process_resident_memory_bytes", "process_open_fds", "process_max_fds"):
            self.assertEqual(kinds.pop(name), "gauge")
        own = {kind for name, kind in kinds.items() if not name.startswith("process_")}
        self.assertEqual(own, {"histogram"})

    def test_what_an_operation_may_come_to_is_counted_from_zero(self) -> None:
        """So the first failure of its kind is an increase, which an alert sees."""
        self.metrics.expect(["/v1/chat/completions"])
        labels = {"route": "/v1/chat/completions", "status": "504", "outcome": "timeout"}
        self.assertEqual(self.sample("infergate_requests_total", **labels), 0)

    def test_build_is_named(self) -> None:
        """What runs: ours, Python's and Twisted's version."""
        labels = {"version": __version__, "twisted": twisted.__version__}
        labels["python"] = platform.python_version()
        self.assertEqual(self.sample("infergate_build_info", **labels), 1)

    def test_operations_have_the_names_of_the_conventions(self) -> None:
        """Conversations of all dialects are chat; what the conventions do not know is called as it
        is here."""
        for operation, name in (
            ("chat", "chat"),
            ("responses", "chat"),
            ("messages", "chat"),
            ("completions", "text_completion"),
            ("embeddings", "embeddings"),
            ("rerank", "rerank"),
        ):
            self.batch = Batch()
            self.metrics = Metrics(self.batch)
            self.account(operation=operation)
            self.assertEqual(self.labels("gen_ai_operation_name"), {name})

    def test_request_without_a_model_is_an_operation_too(self) -> None:
        """A backend that serves one model may be asked without naming one."""
        self.account(model=None)
        self.assertEqual(self.labels("gen_ai_request_model"), {""})

    def test_model_that_a_terminal_would_obey_is_escaped(self) -> None:
        """A label is looked at with `curl`."""
        self.account(model="evil\x1b[2J")
        self.assertEqual(self.labels("gen_ai_request_model"), {"evil\\u001b[2J"})

    def test_value_of_a_part_is_asked_for_when_it_is_shown(self) -> None:
        """Where it is not known, there is none."""
        values: list[float | None] = [None, 7]
        self.metrics.watch("infergate_x", "Of x.", lambda: values.pop(0))
        self.assertIsNone(self.sample("infergate_x"))
        self.assertEqual(self.sample("infergate_x"), 7)

    def test_text(self) -> None:
        """The text is Prometheus's, and holds every figure."""
        self.stream()
        text = generate_latest(self.metrics.registry).decode()
        for name in CONTRACT:
            self.assertIn(f"# HELP {name} ", text)
        self.assertIn(
            'infergate_requests_total{outcome="ok",route="/v1/chat/completions",status="200"} 1.0',
            text,
        )

    def test_in_flight(self) -> None:
        """What is under way goes up with the beginning and down with the end."""
        record, stream = self.record(), self.record()
        self.metrics.began(record)
        self.metrics.began(stream)
        stream.stream = True
        self.assertEqual(self.sample("infergate_requests_in_flight"), 2)
        self.assertEqual(self.sample("infergate_streams_in_flight"), 1)
        for ended in (stream, record):
            ended.close(101.0)
            self.batch.add([ended])
        self.assertEqual(self.sample("infergate_requests_in_flight"), 0)
        self.assertEqual(self.sample("infergate_streams_in_flight"), 0)

    def test_request(self) -> None:
        """Every exchange is counted and timed by its route, method, status and error."""
        self.account(
            status=404,
            **self.failed(NotFound()),
            route="other",
            path="/x",
            method="GET",
            model=None,
        )
        labels = {
            "http_route": "other",
            "http_request_method": "GET",
            "http_response_status_code": "404",
            "error_type": "not_found",
        }
        self.assertEqual(self.sample("http_server_request_duration_seconds_sum", **labels), 4.0)
        counted = self.sample(
            "infergate_requests_total", route="other", status="404", outcome="client_error"
        )
        self.assertEqual(counted, 1)

    def test_stream(self) -> None:
        """A stream's times are to its last token, to its first, and for each one between."""
        self.stream()
        labels = {
            "gen_ai_operation_name": "chat",
            "gen_ai_request_model": "tiny",
            "error_type": "",
        }
        for name, seconds in (
            ("gen_ai_server_request_duration_seconds_sum", 4.0),
            ("gen_ai_server_time_to_first_token_seconds_sum", 1.0),
            ("gen_ai_server_time_per_output_token_seconds_sum", 1.0),  # 3 s for 3 more tokens
        ):
            self.assertEqual(self.sample(name, **labels), seconds, name)
        self.assertEqual(self.sample("infergate_overhead_seconds_sum"), 1.0)

    def test_tokens(self) -> None:
        """Tokens are recorded by their kind and model, where somebody counted them."""
        self.account(usage=Usage(7, 4, 11, "counted"))
        self.account(usage=NO_USAGE)
        for kind, tokens in (("input", 7), ("output", 4)):
            labels = {"gen_ai_token_type": kind, "gen_ai_request_model": "tiny"}
            self.assertEqual(self.sample("gen_ai_client_token_usage_sum", **labels), tokens)
            self.assertEqual(self.sample("gen_ai_client_token_usage_count", **labels), 1)

    def test_plain_reply(self) -> None:
        """A plain reply has no first token, and a stream of one token none that follow."""
        self.account(first_token=None, usage=Usage(7, 4, 11, "backend"))
        name = "gen_ai_server_time_to_first_token_seconds_count"
        labels = {
            "gen_ai_operation_name": "chat",
            "gen_ai_request_model": "tiny",
            "error_type": "",
        }
        self.assertIsNone(self.sample(name, **labels))
        self.account(stream=True, first_token=101.0, usage=Usage(7, 1, 8, "backend"))
        self.assertEqual(self.sample(name, **labels), 1)
        self.assertIsNone(
            self.sample("gen_ai_server_time_per_output_token_seconds_count", **labels)
        )

    def test_no_backend(self) -> None:
        """Where no backend was called, all of the time is the gateway's own."""
        self.account()
        self.assertEqual(self.sample("infergate_overhead_seconds_sum"), 4.0)

    def test_not_a_chat(self) -> None:
        """Only chat completions are in the figures of generative AI."""
        self.account(route="/v1/models", operation=None, model=None)
        self.account(route=CHAT.path, model=None, status=401, model_accepted=False)
        self.assertEqual(self.labels("gen_ai_request_model"), set())
        self.assertEqual(self.sample("infergate_overhead_seconds_count"), 0)

    def test_error(self) -> None:
        """A failure is told by its code."""
        self.stream(**self.failed(BackendError()))
        self.assertEqual(self.labels("error_type"), {"backend_error"})


class Bounds(Accounts):
    """Nobody can make the figures endless."""

    def test_thousands_of_odd_requests_make_no_series_beyond_the_bound(self) -> None:
        """Whatever models, methods, callers and ids clients make up."""
        self.metrics.callers.learn(["alice", "bob"])
        outcomes = (NotFound(), BackendError(), None)
        for number in range(2000):
            error = outcomes[number % 3]
            self.account(
                request_id=f"id-{number}",
                path=f"/{number}",
                method=f"M{number}" if number % 2 else "POST",
                model=f"model-{number}",
                model_accepted=number % 4 != 0,
                caller=f"caller-{number}",
                caller_label=f"caller-{number}",
                **({} if error is None else self.failed(error)),
            )
        for name in ("gen_ai_request_model", "http_request_method", "caller"):
            self.assertLessEqual(len(self.labels(name)), MAX_MODELS + 1, name)
        series = sum(len(histogram.series()) for histogram in self.metrics.histograms)
        self.assertLess(series, 1000)
        samples = sum(len(family.samples) for family in self.metrics.others.collect())
        self.assertLess(samples, 100)

    def test_methods(self) -> None:
        """An unknown method is `other`, and so is none."""
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            self.account(method=method)
        for method in ("BREW", "get", "", None):
            self.account(method=method)
        self.assertEqual(
            self.labels("http_request_method"),
            {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"},
        )

    def test_models(self) -> None:
        """The first hundred models have a label of their own, and go on to have it."""
        for number in range(MAX_MODELS + 5):
            self.account(model=f"model-{number}")
        self.account(model="model-0")
        models = self.labels("gen_ai_request_model")
        self.assertEqual(len(models), MAX_MODELS + 1)
        self.assertIn("other", models)
        self.assertIn(f"model-{MAX_MODELS - 1}", models)
        self.assertNotIn(f"model-{MAX_MODELS}", models)
        name = "gen_ai_server_request_duration_seconds_count"
        for model, count in (("other", 5), ("model-0", 2)):
            labels = {"gen_ai_operation_name": "chat", "gen_ai_request_model": model}
            self.assertEqual(self.sample(name, error_type="", **labels), count)

    def test_refused_models(self) -> None:
        """A model that the backend does not accept takes no label from one that it does."""
        for number in range(MAX_MODELS + 5):
            self.account(model=f"typo-{number}", model_accepted=False)
        self.account(model="real")
        self.assertEqual(self.labels("gen_ai_request_model"), {"other", "real"})
