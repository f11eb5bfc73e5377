"""Tokens out of a backend's ``usage``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.usage import read_usage


class Cached(SynchronousTestCase):
    def cached(self, details: bytes) -> int:
        usage = read_usage(
            b'{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":%b}' % details
        )
        assert usage is not None
        self.assertEqual((usage.prompt_tokens, usage.total_tokens), (9, 10))
        return usage.cached_tokens

    def test_cached_part_of_the_prompt_is_read(self) -> None:
        """The ledger says how much of the prompts the backend had from earlier requests."""
        self.assertEqual(self.cached(b'{"cached_tokens":7,"audio_tokens":0}'), 7)

    def test_details_that_make_no_sense_do_not_take_the_counts_along(self) -> None:
        """A backend that says null, or something else, is still accounted for."""
        for details in (
            b"null",
            b"{}",
            b"[1]",
            b'{"cached_tokens":"many"}',
            b'{"cached_tokens":-1}',
        ):
            self.assertEqual(self.cached(details), 0, details)
