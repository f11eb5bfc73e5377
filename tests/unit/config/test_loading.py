"""The settings as they are read: from where, which of them stop the start, and with which line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import SynchronousTestCase

from infergate.access.auth import Token
from infergate.access.ratelimit import Rate
from infergate.config.loading import EMPTY_CREDENTIAL, load
from infergate.config.settings import Settings
from infergate.config.sources import SettingsError

NAMES = [field.name for field in attrs.fields(Settings)]
CREDENTIALS = ["api_keys", "api_keys_file", "jwt_secret", "jwt_public_key_file", "jwt_jwks_url"]


def from_environ(**environ: str) -> Settings:
    return load({}, environ, {})


class Sources(SynchronousTestCase):
    def test_without_any_source_settings_are_the_defaults(self) -> None:
        """Without any source the settings are the defaults."""
        self.assertEqual(load({}, {}, {}), Settings())
        self.assertEqual(Settings().port, 8080)
        self.assertIsNone(Settings().backend_url)

    def test_option_goes_over_environment_over_dotenv_over_default(self) -> None:
        """An option goes over the environment, that over .env, that over the default."""
        options, environ, dotenv = {"max-headers": "1"}, {"MAX_HEADERS": "2"}, {"MAX_HEADERS": "3"}
        self.assertEqual(load(options, environ, dotenv).max_headers, 1)
        self.assertEqual(load({"max-headers": None}, environ, dotenv).max_headers, 2)
        self.assertEqual(load({}, {}, dotenv).max_headers, 3)
        self.assertEqual(load({}, {}, {"MAX_HEADERS": None}).max_headers, 100)

    def test_empty_text_is_the_default_and_hides_sources_below(self) -> None:
        """An empty text is the default, and hides what the sources below say."""
        everything = {name.upper(): "" for name in NAMES if name not in CREDENTIALS}
        del everything["DEFAULT_MODEL"], everything["BACKEND_HEALTH_PATH"]
        self.assertEqual(from_environ(**everything), Settings())
        settings = load({"backend-url": ""}, {"BACKEND_URL": "http://a"}, {})
        self.assertIsNone(settings.backend_url)

    def test_empty_model(self) -> None:
        """An empty DEFAULT_MODEL is a value of its own: the model is required."""
        self.assertEqual(from_environ(DEFAULT_MODEL="").default_model, "")
        self.assertEqual(load({"default-model": ""}, {}, {}).default_model, "")

    def test_space_around_a_value_counts_in_secrets_alone(self) -> None:
        """Space around a value does not count, but in a secret, of which it may be a part."""
        self.assertEqual(from_environ(PORT=" 1 ", BACKEND_URL=" ").port, 1)
        secret = from_environ(JWT_SECRET=" s ").jwt_secret
        assert secret is not None
        self.assertEqual(secret.find("HS256", None), b" s ")

    def test_values_come_parsed(self) -> None:
        """Values come parsed."""
        settings = from_environ(
            BACKEND_URL="http://host:1/v1/",
            RATE_LIMIT="60/minute",
            TRUSTED_PROXIES="10.0.0.0/8",
            SSE_KEEPALIVE="0.5",
            LOG_LEVEL="WARN",
            OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318/",
        )
        self.assertEqual(settings.backend_url, "http://host:1/v1")
        self.assertEqual(settings.rate_limit, Rate(60, 60))
        self.assertEqual(str(settings.trusted_proxies[0]), "10.0.0.0/8")
        self.assertEqual(settings.sse_keepalive, 0.5)
        self.assertEqual(settings.log_level, "warn")
        self.assertEqual(settings.otel_exporter_otlp_endpoint, "http://collector:4318")

    def test_keys_come_as_what_they_open(self) -> None:
        """Keys are read and parsed once: what a setting holds lets callers in by itself, though
        its file be gone, and shows no key."""
        path = Path(self.mktemp())
        path.write_text("file:canary-2\n")
        settings = from_environ(API_KEYS="text:canary-1", API_KEYS_FILE=str(path))
        path.unlink()
        assert settings.api_keys is not None
        assert settings.api_keys_file is not None
        self.assertEqual(settings.api_keys.authenticate(Token("canary-1")), "text")
        self.assertEqual(
            settings.api_keys_file.content.ring.authenticate(Token("canary-2")), "file"
        )
        self.assertIn(str(path), repr(settings))
        self.assertNotIn("canary", repr(settings))

    def test_secret_may_stand_in_a_file(self) -> None:
        """A secret is what its file holds; a wrong one is named by the file, an empty path of a
        credential is as wrong as an empty credential."""
        path = Path(self.mktemp())
        path.write_text("canary\n")
        settings = from_environ(BACKEND_API_KEY_FILE=str(path), JWT_SECRET_FILE=str(path))
        self.assertEqual(settings.backend_api_key, "canary")
        assert settings.jwt_secret is not None
        self.assertEqual(settings.jwt_secret.find("HS256", None), b"canary")
        self.assertEqual(settings.jwt_algorithms, ("HS256",))
        path.write_text("two words")
        with self.assertRaises(SettingsError) as caught:
            from_environ(BACKEND_API_KEY_FILE=str(path))
        self.assertRegex(str(caught.exception), "BACKEND_API_KEY_FILE='.*': must be visible")
        with self.assertRaisesRegex(SettingsError, "JWT_SECRET_FILE: must not be empty"):
            from_environ(JWT_SECRET_FILE="")
        self.assertIsNone(from_environ(BACKEND_API_KEY_FILE="").backend_api_key)


class Refusals(SynchronousTestCase):
    def line(self, environ: Mapping[str, str]) -> str:
        with self.assertRaises(SettingsError, msg=str(environ)) as caught:
            load({}, environ, {})
        line = str(caught.exception)
        self.assertTrue(line.isprintable())
        self.assertIsNone(caught.exception.__cause__)
        return line

    def test_refusal_names_setting_value_and_what_is_allowed(self) -> None:
        """The line names the setting, the value and what is allowed."""
        self.assertEqual(
            self.line({"PORT": "abc"}), "PORT='abc': must be a whole number from 0 to 65535"
        )

    def test_value_cannot_make_a_second_line(self) -> None:
        """A value cannot make a second line."""
        self.assertIn(r"HOST='a\nb\x1b'", self.line({"HOST": "a\nb\x1b"}))

    def test_each_setting_has_its_limits(self) -> None:
        """Each setting has its limits."""
        for name, value in (
            ("PORT", "65536"),
            ("LISTEN", "tcp:1\x00"),
            ("BACKEND_URL", "localhost:9000"),
            ("BACKEND_CONNECT_TIMEOUT", "0"),
            ("BACKEND_RETRIES", "11"),
            ("MAX_TOKENS_LIMIT", "0"),
            ("MAX_HEADER_BYTES", "255"),
            ("HEADER_TIMEOUT", "inf"),
            ("DRAIN_TIMEOUT", "-1"),
            ("SSE_KEEPALIVE", "soon"),
            ("API_KEYS_FILE", "/nonexistent"),
            ("JWT_PUBLIC_KEY_FILE", "/nonexistent"),
            ("JWT_JWKS_URL", "file:///etc/passwd"),
            ("RATE_LIMIT", "5/week"),
            ("TRUSTED_PROXIES", "10.0.0.1/8"),
            ("ERROR_FORMAT", "xml"),
            ("LOG_FORMAT", "yaml"),
            ("LOG_LEVEL", "loud"),
        ):
            self.assertTrue(self.line({name: value}).startswith(f"{name}={value!r}: "))

    def test_empty_credential_stops_the_start(self) -> None:
        """A secret that failed to be injected never opens the gateway to everybody, whichever
        source it is empty in, and whatever a source below says."""
        for field in CREDENTIALS:
            name, option = field.upper(), field.replace("_", "-")
            for empty in ("", " ", "\n"):
                for sources in (
                    ({option: empty}, {}, {}),
                    ({}, {name: empty}, {}),
                    ({}, {}, {name: empty}),
                    ({}, {name: empty}, {name: "key"}),
                    ({option: empty}, {name: "key"}, {}),
                ):
                    with self.assertRaises(SettingsError, msg=(name, sources)) as caught:
                        load(*sources)  # type: ignore[arg-type]
                    self.assertEqual(str(caught.exception), f"{name}: {EMPTY_CREDENTIAL}")

    def test_zero_turns_off_what_may_be_off(self) -> None:
        """Nobody need wait for a drain, and a stream need not be kept alive."""
        settings = from_environ(DRAIN_TIMEOUT="0", SSE_KEEPALIVE="0", PORT="0", BACKEND_RETRIES="0")
        self.assertEqual((settings.drain_timeout, settings.backend_retries), (0, 0))

    def test_secrets_are_in_no_refusal_and_no_repr(self) -> None:
        """No secret is shown, in a refusal or in the settings' repr; nor is a URL's password."""
        settings = from_environ(BACKEND_API_KEY="canary", API_KEYS="canary", JWT_SECRET="canary")
        self.assertNotIn("canary", repr(settings))
        for name, value in (
            ("BACKEND_API_KEY", "can ary"),
            ("API_KEYS", "can ary"),
            ("JWT_SECRET", "can\udcffary"),
            ("BACKEND_URL", "http://can:ary@host"),
            ("BACKEND_URL", "http://host/?can=ary"),
        ):
            line = self.line({name: value})
            self.assertTrue(line.startswith(f"{name}: "), line)
            self.assertNotIn("ary", line)


class Tokens(SynchronousTestCase):
    JWKS = "https://host/jwks"

    def refused(self, word: str, **environ: str) -> None:
        with self.assertRaisesRegex(SettingsError, word):
            from_environ(**environ)

    def test_usual_algorithm_is_that_of_the_kind_of_key(self) -> None:
        """Unset, the algorithm is the usual one for the kind of key."""
        self.assertEqual(from_environ(JWT_SECRET="s").jwt_algorithms, ("HS256",))
        self.assertEqual(from_environ(JWT_JWKS_URL=self.JWKS).jwt_algorithms, ("RS256",))
        self.assertEqual(Settings().jwt_algorithms, ())

    def test_there_is_one_way_to_check_tokens(self) -> None:
        """There is one way to check tokens."""
        self.refused(
            "JWT_JWKS_URL='https://host/jwks': must not be set beside JWT_SECRET",
            JWT_SECRET="s",
            JWT_JWKS_URL=self.JWKS,
        )

    def test_token_settings_need_a_token_key(self) -> None:
        """What a token must hold means nothing where no token is checked."""
        for name, value in (
            ("JWT_ISSUER", "me"),
            ("JWT_AUDIENCE", "you"),
            ("JWT_ALGORITHMS", "RS256"),
        ):
            self.refused(f"{name}='{value}': must go with JWT_SECRET", **{name: value})

    def test_rules_for_a_sub_need_tokens(self) -> None:
        """A line for a token's sub means nothing where no token is checked; file and line are
        named."""
        path = Path(self.mktemp())
        path.write_text("a:key\nalice:- rate=1/day\n")
        self.refused(f"API_KEYS_FILE: {path} line 2: .* JWT_SECRET", API_KEYS_FILE=str(path))
        from_environ(API_KEYS_FILE=str(path), JWT_SECRET="s")

    def test_wrong_line_of_a_keys_file_is_named(self) -> None:
        """An error names the file and its line once."""
        path = Path(self.mktemp())
        path.write_text("a:key\n\nb:key-2 rate=lots\n")
        line = f"^API_KEYS_FILE: {path} line 3: rate=lots: must be N/second"
        self.refused(line, API_KEYS_FILE=str(path))

    def test_public_key_and_secret_are_never_confused(self) -> None:
        """A public key is never used as a secret, nor a secret for signatures."""
        self.refused("JWT_ALGORITHMS='HS256'", JWT_JWKS_URL=self.JWKS, JWT_ALGORITHMS="HS256")
        self.refused("JWT_ALGORITHMS", JWT_JWKS_URL=self.JWKS, JWT_ALGORITHMS="RS256,HS256")
        self.refused("JWT_ALGORITHMS='RS256'", JWT_SECRET="s", JWT_ALGORITHMS="RS256")
        self.refused("JWT_ALGORITHMS='none'", JWT_SECRET="s", JWT_ALGORITHMS="none")

    def test_key_file_holds_a_public_key_for_the_algorithms(self) -> None:
        """A key file must hold a public key, and one for the algorithms."""
        path = Path(self.mktemp())
        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        pem = public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        path.write_bytes(pem)
        settings = from_environ(JWT_PUBLIC_KEY_FILE=str(path), JWT_ALGORITHMS="ES256")
        read = settings.jwt_public_key_file
        assert read is not None
        self.assertEqual((read.path, read.content.find("ES256", None)), (str(path), public))
        self.refused("JWT_ALGORITHMS='RS256'.*ES256", JWT_PUBLIC_KEY_FILE=str(path))
        self.refused("JWT_SECRET: must be a secret", JWT_SECRET=pem.decode())
        path.write_text("no key")
        self.refused("JWT_PUBLIC_KEY_FILE=.*must hold a public key", JWT_PUBLIC_KEY_FILE=str(path))
