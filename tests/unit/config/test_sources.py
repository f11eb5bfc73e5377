"""Where a setting's text comes from, and what is refused before anybody looks at its meaning."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from infergate.config.sources import SettingsError, Sources, Written


def found(name: str, text: str, **marks: bool) -> Written | None:
    return Sources({}, {name.upper(): text}, {}).find(name, **marks)


class Places(SynchronousTestCase):
    def test_first_place_counts(self) -> None:
        """An option goes over the environment, that over .env; what none has is None."""
        sources = Sources({"max-headers": "1"}, {"MAX_HEADERS": "2", "PORT": "2"}, {"HOST": "3"})
        for name, text in (("max_headers", "1"), ("port", "2"), ("host", "3")):
            written = sources.find(name)
            assert written is not None
            self.assertEqual((written.name, written.text), (name.upper(), text))
        self.assertIsNone(sources.find("listen"))

    def test_secret_is_never_shown(self) -> None:
        """A secret stands in no repr and in no line that refuses it."""
        written = found("api_keys", " canary ", secret=True)
        assert written is not None
        self.assertEqual(written.text, " canary ")
        self.assertNotIn("canary", repr(written) + str(written.refused("must be longer")))


class Files(SynchronousTestCase):
    def file(self, data: bytes) -> str:
        path = Path(self.mktemp())
        path.write_bytes(data)
        return str(path)

    def in_file(self, path: str, **others: str) -> Written | None:
        sources = Sources({}, {"JWT_SECRET_FILE": path, **others}, {})
        return sources.find("jwt_secret", secret=True, file=True)

    def test_one_line_feed_at_the_end_is_ignored(self) -> None:
        """A secret is what its file holds, but for the line feed with which editors end a file."""
        for data, text in ((b"s", "s"), (b"s\n", "s"), (b"s\n\n", "s\n"), (b" s \n", " s ")):
            written = self.in_file(self.file(data))
            assert written is not None
            self.assertEqual(written.text, text)

    def test_both_together_are_refused(self) -> None:
        """A secret and its file are not both given; where one of them is empty the other holds."""
        path = self.file(b"s")
        with self.assertRaisesRegex(SettingsError, "JWT_SECRET_FILE=.*beside JWT_SECRET"):
            self.in_file(path, JWT_SECRET="canary")
        for environ, text in ((self.in_file(path, JWT_SECRET=""), "s"),
                              (self.in_file("", JWT_SECRET="t"), "t")):  # fmt: skip
            assert environ is not None
            self.assertEqual(environ.text, text)

    def test_file_must_hold_a_secret(self) -> None:
        """A file that is missing, empty or no text is named, and what it holds is not shown."""
        for path, why in (
            ("/nonexistent", "must be a file that can be read: No such file"),
            ("/", "must be a file that can be read: Is a directory"),
            ("a\0b", "must be a file that can be read: embedded null byte"),
            (self.file(b"\n"), "must be a file that holds a secret, and is empty"),
            (self.file(b"canary\xff"), "must be a file in UTF-8"),
        ):
            with self.assertRaises(SettingsError) as caught:
                self.in_file(path)
            self.assertTrue(str(caught.exception).startswith(f"JWT_SECRET_FILE={path!r}: {why}"))
            self.assertNotIn("canary", str(caught.exception))

    def test_only_secrets_have_files(self) -> None:
        """A setting without the mark is not looked for in a file."""
        self.assertIsNone(
            found("port_file", "x") and Sources({}, {"PORT_FILE": "x"}, {}).find("port")
        )


class Meant(SynchronousTestCase):
    def test_what_is_not_meant_is_refused_by_its_name(self) -> None:
        """A value that still has its quotes, or a `${NAME}`, stops the start, wherever it stands;
        no secret is shown."""
        path = Path(self.mktemp())
        path.write_text("${canary}\n")
        for environ, line in (
            ({"JWT_SECRET": "'canary'"}, "JWT_SECRET: still has its quotes"),
            ({"JWT_SECRET": "a${canary}"}, "JWT_SECRET: holds a ${NAME}"),
            ({"JWT_SECRET_FILE": str(path)}, f"JWT_SECRET_FILE={str(path)!r}: holds a ${{NAME}}"),
        ):
            with self.assertRaises(SettingsError) as caught:
                Sources({}, environ, {}).find("jwt_secret", secret=True, file=True)
            self.assertTrue(str(caught.exception).startswith(line), caught.exception)
            self.assertNotIn("canary", str(caught.exception))
