"""The file `.env`: what is read out of it, and which of its names are probably misspelt."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from infergate.config.dotenv import misspelt, read_dotenv
from infergate.config.settings import names
from infergate.config.sources import SettingsError


class Read(SynchronousTestCase):
    def written(self, data: bytes) -> Path:
        path = Path(self.mktemp())
        path.write_bytes(data)
        return path

    def test_read(self) -> None:
        """A .env file is read without interpolation, with quotes, comments and a BOM."""
        path = self.written(b"\xef\xbb\xbfPORT=1 # one\nexport JWT_SECRET='a b'\nHOST=$A${B}\n")
        values = {"PORT": "1", "JWT_SECRET": "a b", "HOST": "$A${B}"}
        self.assertEqual(read_dotenv(path), values)

    def test_missing(self) -> None:
        """A missing file says nothing."""
        self.assertEqual(read_dotenv(self.mktemp()), {})

    def test_unreadable(self) -> None:
        """A file that is there must be readable, in UTF-8, line by line."""
        for path, why in (
            (Path("."), "cannot be read: Is a directory"),
            (self.written(b"PORT=\xff"), "must be UTF-8"),
            (self.written(b'PORT=1\nAPI_KEYS="canary\n'), "line 2 is not NAME=value"),
            (self.written(b"PORT=1\nAPI_KEYS\n"), "line 2 is not NAME=value"),
        ):
            with self.assertRaises(SettingsError) as caught:
                read_dotenv(path)
            self.assertEqual(str(caught.exception), f"{path}: {why}")


class Misspelt(SynchronousTestCase):
    def test_nearly_a_setting_is_told_which(self) -> None:
        """Two letters that changed places, one that is missing, or small letters: each is told
        from which setting it is likely to come."""
        for name, likely in (
            ("BACKNED_URL", "BACKEND_URL"),
            ("API_KEY", "API_KEYS"),
            ("backend_url", "BACKEND_URL"),
            ("MAX_TOKEN_LIMIT", "MAX_TOKENS_LIMIT"),
            ("LOGLEVEL", "LOG_LEVEL"),
            ("JWT_SECRETS_FILE", "JWT_SECRET_FILE"),
            ("OTEL_EXPORTER_OTLP_ENDPIONT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ):
            self.assertEqual(misspelt([name], names()), {name: likely})

    def test_names_of_other_programs_are_left_alone(self) -> None:
        """A setting, and what is like none, is not warned of: others read the same file."""
        others = ["HOSTNAME", "MODEL", "POSTGRES_PASSWORD", "OPENAI_API_KEY", "EXPORT", "HF_HOME"]
        others += ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"]
        self.assertEqual(misspelt([*others, *names()], names()), {})
