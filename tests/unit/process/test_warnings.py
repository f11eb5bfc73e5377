"""What is warned of at the start; `test_tap` has what reaches the log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from infergate.config.loading import load
from infergate.config.settings import Settings
from infergate.process import warnings
from infergate.process.warnings import NAMED, ledger_warnings, misspelt_names, warnings_about


class Warnings(SynchronousTestCase):
    def warned(self, host: str | None = "127.0.0.1", **options: Any) -> list[str]:
        return list(warnings_about(load(options, {}, {}), host))

    def keys(self, text: str, mode: int = 0o600) -> str:
        """The path of a file of keys."""
        path = str(self.mktemp())
        Path(path).write_text(text)
        os.chmod(path, mode)
        return path

    def test_short_keys_are_warned_of_by_name(self) -> None:
        """A caller with a key that is easy to guess is named, with how long a key ought to be."""
        path = self.keys("bob:short-one\n")
        warnings = self.warned(
            **{"api-keys": "alice:short,strong:0123456789abcdef", "api-keys-file": path}
        )
        self.assertEqual(len(warnings), 2)
        for warning, setting, name in zip(
            warnings, ("API_KEYS:", "API_KEYS_FILE:"), ("alice", "bob"), strict=True
        ):
            self.assertTrue(warning.startswith(setting))
            self.assertIn("16 characters", warning)
            self.assertIn(name, warning)
            self.assertNotIn("short", warning.replace("shorter", ""))

    def test_many_short_keys_are_one_line(self) -> None:
        """The first callers are named, and the others counted."""
        path = self.keys("".join(f"caller{number}:short{number}\n" for number in range(NAMED + 3)))
        (warning,) = self.warned(**{"api-keys-file": path})
        self.assertEqual(warning.count("caller"), NAMED)
        self.assertIn(f"caller{NAMED - 1} and 3 more. ", warning)

    def test_plain_keys_that_others_may_read_are_warned_of(self) -> None:
        """A file of plain keys is for the gateway alone."""
        path = self.keys("bob:0123456789abcdef\n", 0o644)
        (warning,) = self.warned(**{"api-keys-file": path})
        self.assertTrue(warning.startswith(f"API_KEYS_FILE: {path} holds plain keys"))

    def test_metrics_and_usage_that_would_be_lost_are_warned_of(self) -> None:
        """Shared ports without metrics of each process, and token limits that a restart would
        forget, are told; with METRICS_LISTEN, or somewhere to keep the usage, they are not."""
        (warning,) = self.warned(**{"reuse-port": "true"})
        self.assertTrue(warning.startswith("REUSE_PORT without METRICS_LISTEN"))
        self.assertEqual(self.warned(**{"reuse-port": "true", "metrics-listen": "tcp:9100"}), [])
        keys = "bob:0123456789abcdef tokens=9/{}\n"
        for window in ("day", "week", "month"):
            path = self.keys(keys.format(window))
            (warning,) = self.warned(**{"api-keys-file": path})
            self.assertIn("neither USAGE_DB nor SHARED_STATE", warning)
            self.assertEqual(self.warned(**{"api-keys-file": path, "usage-db": "usage.db"}), [])
        self.assertEqual(self.warned(**{"api-keys-file": self.keys(keys.format("hour"))}), [])

    def test_ledger_and_names_that_are_in_order_are_not_warned_of(self) -> None:
        """Only a ledger file on a network file system is, and a name that is nearly a setting."""
        self.patch(warnings, "network_file_system", lambda path: {"/far/a": "nfs4"}.get(path))
        for path, count in (("/far/a", 1), ("/near/a", 0)):
            settings = load({"usage-db": path}, {}, {})
            self.assertEqual(len(list(ledger_warnings(settings))), count, path)
        self.assertEqual(list(ledger_warnings(Settings())), [])
        self.assertEqual(misspelt_names({"BACKEND_URL": "a", "HOSTNAME": "x"}), [])
        self.assertEqual(
            misspelt_names({"BACKNED_URL": "secret"}),
            ["BACKNED_URL in .env is no setting. Is BACKEND_URL meant?"],
        )
