"""Tokens out of a backend's ``usage``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.usage import MAX_COUNT, read_usage, settled, usage_of


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


class Counts(SynchronousTestCase):
    def test_count_that_no_exchange_comes_near_is_none(self) -> None:
        """What a backend makes up is not charged to anybody, and counted nowhere."""
        for count, believed in ((MAX_COUNT, True), (MAX_COUNT + 1, False), (2**63, False)):
            usage = read_usage(b'{"prompt_tokens":1,"completion_tokens":%d}' % count)
            self.assertEqual(usage is not None, believed)

    def test_sum_of_counts_ends_where_a_count_does(self) -> None:
        """Whoever counted: the backend, or the gateway where the backend says one of the two."""
        several = 3 * MAX_COUNT
        for usage in (
            usage_of(several, several),
            settled(several, several, 0, 0),
            settled(several, None, 0, several),
        ):
            self.assertEqual((usage.prompt_tokens, usage.completion_tokens), (MAX_COUNT, MAX_COUNT))
