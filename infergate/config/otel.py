"""The standard ``OTEL_*`` variables: what is pushed, and where to.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/

Read from the environment and ``.env``, as the settings are, but they are none: their names and
meanings are OpenTelemetry's. Durations are milliseconds there, an empty variable is one that is not
set, and what would be a secret is only in the values of header fields.

    OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318            both signals, at its /v1/metrics
                                                                 and /v1/traces
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://other:4318/spans   traces go there, exactly
    OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20abc        with each push
    OTEL_EXPORTER_OTLP_METRICS_TIMEOUT=2000                      two seconds, for metrics alone
    OTEL_TRACES_EXPORTER=none                                    no traces after all

Nothing is pushed where no endpoint is named: here the standard's default, a collector on the same
machine, is not followed, since a gateway must not connect anywhere that nobody has named.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import attrs
from msgspec import Struct

from infergate import __version__
from infergate.config import values
from infergate.config.sources import SettingsError
from infergate.telemetry.tracing import Sampler, always, never, parent_based, ratio

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"

# The name of a header field (RFC 9110, 5.1).
_FIELD = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


@attrs.frozen
class Signal:
    """Say where the metrics or the traces are pushed; a signal is one of the two.

    `setting` names the variable that holds the endpoint, for messages. `timeout` is in seconds; the
    values of `headers` are secrets; `trust` is a trust root of Twisted's, None for the system's.
    Made by `read_telemetry`, and used by `wiring.pushing`.
    """

    setting: str
    url: str
    headers: dict[str, str] = attrs.field(repr=False)
    timeout: float
    gzip: bool
    trust: Any


class Telemetry(Struct, frozen=True):
    """All that is asked for; a signal that is not pushed is None. Times are in seconds.

    `resource` are the attributes that go with each push and say which process it comes from. The
    sampler decides which traces are recorded. The ``span_`` fields bound what waits to be pushed:
    for how long, how many exchanges at most, and how many in one push.
    """

    metrics: Signal | None = None
    traces: Signal | None = None
    resource: dict[str, str] = {}
    metrics_interval: float = 60.0
    sampler: Sampler = never
    span_delay: float = 5.0
    span_queue: int = 2048
    span_batch: int = 512


def read_telemetry(variables: Mapping[str, str | None]) -> Telemetry:
    """Return what the variables ask for; with nothing to push, a `Telemetry` without signals.

    Called by `tap` and ``infergate check``, with what `variables` has gathered. Raises
    `SettingsError` for the first that is wrong, but for none of a signal that is not pushed.
    """
    read = _Variables(variables)
    if read.text("OTEL_SDK_DISABLED").lower() == "true":
        return Telemetry()
    metrics, traces = read.signal("METRICS"), read.signal("TRACES")
    if metrics is None and traces is None:
        return Telemetry()
    return Telemetry(
        metrics,
        traces,
        read.resource(),
        metrics_interval=read.seconds("OTEL_METRIC_EXPORT_INTERVAL", 60_000),
        sampler=read.sampler() if traces is not None else never,
        span_delay=read.seconds("OTEL_BSP_SCHEDULE_DELAY", 5_000),
        span_queue=read.count("OTEL_BSP_MAX_QUEUE_SIZE", 2048),
        span_batch=read.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
    )


class _Variables:
    """Read each of the variables as what it is: a text, a number, a list, a signal.

    All methods take the name of a variable, but for those that say otherwise, and raise
    `SettingsError`, which names it, for a value that is not allowed. A variable that is
    empty, or holds spaces alone, is one that is not set. Made by `read_telemetry`.
    """

    def __init__(self, variables: Mapping[str, str | None]) -> None:
        self._variables = variables

    def text(self, name: str, default: str = "") -> str:
        """Return a variable without the spaces around it, or `default`. Raises nothing."""
        return (self._variables.get(name) or "").strip() or default

    def signal(self, kind: str) -> Signal | None:
        """Return where a signal is pushed, or None where it is not; `kind` is METRICS or TRACES.

        It is pushed where an endpoint is named and its exporter is ``otlp``, the default. Its own
        variables come before those of all signals; its own endpoint is used as it stands, the
        general one is the base of a path. Called by `read_telemetry`, once for each.
        """
        if "otlp" not in self.text(f"OTEL_{kind}_EXPORTER", "otlp").lower().split(","):
            return None
        own = f"OTEL_EXPORTER_OTLP_{kind}_ENDPOINT"
        setting = own if self.text(own) else ENDPOINT
        if not self.text(setting):
            return None
        url = self._parsed(setting, values.url if setting == own else values.base_url)
        if setting == ENDPOINT:
            url += f"/v1/{kind.lower()}"
        self._check_transport(kind)
        certificate, trust = self._of(kind, "CERTIFICATE"), None
        if self.text(certificate):
            trust = self._parsed(certificate, values.authorities)
        return Signal(
            setting,
            url,
            self._headers(self._of(kind, "HEADERS")),
            self.seconds(self._of(kind, "TIMEOUT"), 10_000),
            self._choice(self._of(kind, "COMPRESSION"), "none", "gzip") == "gzip",
            trust,
        )

    def resource(self) -> dict[str, str]:
        """Return the attributes of this process, for each push.

        Several processes on one machine are told apart by an id that each makes for itself, unless
        it was given one. `OTEL_SERVICE_NAME` comes before the name among
        `OTEL_RESOURCE_ATTRIBUTES`. Called by `read_telemetry` where anything is pushed.
        """
        given = self._pairs("OTEL_RESOURCE_ATTRIBUTES", secret=False)
        known = {
            "service.name": "infergate",
            "service.version": __version__,
            "service.instance.id": str(uuid.uuid4()),
            **given,
        }
        name = self.text("OTEL_SERVICE_NAME")
        return {**known, "service.name": name} if name else known

    def sampler(self) -> Sampler:
        """Return what decides which traces are recorded, by `OTEL_TRACES_SAMPLER`.

        One that is ``parentbased_`` does as the client's trace does, and goes by its root where the
        trace begins here. The default is ``parentbased_always_on``. Called by `read_telemetry`
        where traces are pushed.
        """
        name = "OTEL_TRACES_SAMPLER"
        roots: dict[str, Sampler] = {
            "always_on": always,
            "always_off": never,
            "traceidratio": ratio(self._part("OTEL_TRACES_SAMPLER_ARG")),
        }
        samplers = roots | {f"parentbased_{kind}": parent_based(roots[kind]) for kind in roots}
        return samplers[self._choice(name, "parentbased_always_on", *samplers)]

    def seconds(self, name: str, default: int) -> float:
        """Return a time in seconds; the variable, and `default`, are in milliseconds.

        So ``OTEL_BSP_SCHEDULE_DELAY=5000`` is 5.0. Raises `SettingsError` as `count` does.
        """
        return self.count(name, default) / 1000

    def count(self, name: str, default: int) -> int:
        """Return a whole number from 1, `default` where the variable is not set.

        Raises `SettingsError` for any other number or text.
        """
        return int(self._parsed(name, values.whole(1), str(default)))

    def _of(self, kind: str, what: str) -> str:
        """Return the name of the signal's own variable where it is set, else that of all signals.

        Of ``TRACES`` and ``TIMEOUT`` that is

            OTEL_EXPORTER_OTLP_TRACES_TIMEOUT
            OTEL_EXPORTER_OTLP_TIMEOUT           where the former is not set

        and raises nothing. Called by `signal` and `_check_transport`.
        """
        own = f"OTEL_EXPORTER_OTLP_{kind}_{what}"
        return own if self.text(own) else f"OTEL_EXPORTER_OTLP_{what}"

    def _check_transport(self, kind: str) -> None:
        """Refuse what would be sent in another way than was asked for.

        That is by gRPC or as JSON, where only ``http/protobuf`` is spoken, or with a certificate
        of the client's own. Called by `signal` for a signal that is pushed.
        """
        self._choice(self._of(kind, "PROTOCOL"), "http/protobuf")
        for what in ("CLIENT_KEY", "CLIENT_CERTIFICATE"):
            name = self._of(kind, what)
            if self.text(name):
                raise SettingsError(name, None, "client certificates are not supported")

    def _headers(self, name: str) -> dict[str, str]:
        """Return the header fields that go with each push, by their names.

        Raises `SettingsError` as `_pairs` does, for what is no name of a field, and for a value
        that is not printable ASCII, such as a line feed that would begin another header field.
        Their values are never shown. Called by `signal`.
        """
        headers = self._pairs(name, secret=True)
        for field, value in headers.items():
            if not _FIELD.fullmatch(field) or not value.isprintable() or not value.isascii():
                raise SettingsError(name, None, "must be name=value,name=value in ASCII")
        return headers

    def _pairs(self, name: str, *, secret: bool) -> dict[str, str]:
        """Return a list as W3C Baggage writes it, with its names and values percent-decoded.

            authorization=Bearer%20abc,tenant=a    {"authorization": "Bearer abc", "tenant": "a"}

        The text of a `secret` list is not shown in the error. Raises `SettingsError` for an entry
        that is not ``name=value``. Called by `_headers` and `resource`.
        """
        text = self.text(name)
        pairs = {}
        for entry in filter(None, (entry.strip() for entry in text.split(","))):
            key, equals, value = entry.partition("=")
            if not equals or not key.strip():
                shown = None if secret else text
                raise SettingsError(name, shown, "must be name=value,name=value")
            pairs[unquote(key.strip())] = unquote(value.strip())
        return pairs

    def _part(self, name: str) -> float:
        """Return the part of all traces that is recorded, from 0 to 1; 1 where nothing is said.

        Raises `SettingsError` for any other number or text. Called by `sampler`.
        """
        text = self.text(name, "1")
        try:
            part = float(text)
        except ValueError:
            part = -1.0
        if not 0 <= part <= 1:
            raise SettingsError(name, text, "must be a number from 0 to 1")
        return part

    def _choice(self, name: str, default: str, *others: str) -> str:
        """Return a variable in lower case, `default` where it is not set.

        Raises `SettingsError`, which lists what is allowed, for any but `default` and the `others`.
        Called by `signal`, `sampler` and `_check_transport`.
        """
        text = self.text(name, default).lower()
        allowed = dict.fromkeys((default, *others))
        if text not in allowed:
            raise SettingsError(name, text, f"must be {' or '.join(allowed)}")
        return text

    def _parsed(self, name: str, parse: Any, default: str = "") -> Any:
        """Return what `parse` makes of a variable, or of `default` where it is not set.

        `parse` is a function of `values`; the `ValueError` it raises becomes a `SettingsError`.
        Called by `signal` and `count`.
        """
        text = self.text(name, default)
        try:
            return parse(text)
        except ValueError as why:
            raise SettingsError(name, text, str(why)) from None


def variables(
    environ: Mapping[str, str], dotenv: Mapping[str, str | None], endpoint: str | None
) -> dict[str, str | None]:
    """Return the ``OTEL_*`` variables out of the environment over ``.env``, for `read_telemetry`.

    `endpoint` is the setting `OTEL_EXPORTER_OTLP_ENDPOINT` as it was parsed, which may come from an
    option: it takes the place of the variable, unless it is None. Called by `tap` and ``infergate
    check``; raises nothing.
    """
    known = {name: text for name, text in dotenv.items() if name.startswith("OTEL_")}
    known |= {name: text for name, text in environ.items() if name.startswith("OTEL_")}
    return known if endpoint is None else {**known, ENDPOINT: endpoint}
