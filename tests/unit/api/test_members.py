"""The members of a request, judged one by one."""

from __future__ import annotations

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from infergate.api import members as m
from infergate.api.operation import Later, Rules
from infergate.errors import InvalidRequest

RULES = Rules(default_model="default", max_tokens_limit=1000)


def raw(**texts: bytes) -> dict[str, Raw]:
    return {name: Raw(text) for name, text in texts.items()}


class Judging(SynchronousTestCase):
    def test_values_are_those_of_the_members_that_are_there(self) -> None:
        """A null is as if it were not there, and what is in no table is left alone."""
        members = raw(n=b"2", top_p=b"null", stop=b'["a"]', seed=b"null")
        self.assertEqual(m.judge(members, m.CHOICES, RULES), {"n": 2})
        self.assertEqual(list(members), ["n", "stop", "seed"])

    def test_fault_is_named_with_its_place(self) -> None:
        """The message says which member is wrong, or missing, and where within it."""
        for members, param, message in (
            (raw(max_tokens=b"1.5"), "max_tokens", "expected an integer without a fraction."),
            (raw(max_tokens=b"1001"), "max_tokens", "the largest is 1000, which MAX_TOKENS_LIMIT"),
            (raw(max_tokens=b"0"), "max_tokens", "the smallest is 1; without it there is no limit"),
            (raw(stop=b'["a",5]'), "stop[1]", "is wrong: expected `str`, got `int`."),
            (raw(messages=b"null"), "messages", "`messages` is null, and must not be."),
            ({}, "messages", "`messages` is missing."),
        ):
            table = (m.MAX_TOKENS, m.STOP, m.MESSAGES)
            error = self.assertRaises(InvalidRequest, m.judge, members, table, RULES)
            self.assertEqual(error.param, param)
            self.assertIn(message, error.message)

    def test_what_takes_long_is_left_for_later(self) -> None:
        """A large member holds nobody up: it is judged in steps, and its fault comes out there."""
        later: Later = []
        m.judge(raw(stop=b"[5]", n=b"1"), m.CHOICES, RULES, later)
        self.assertEqual(len(later), 1)
        error = self.assertRaises(InvalidRequest, list, later[0])
        self.assertEqual((error.code, error.param), ("invalid_stop", "stop[0]"))


class Settling(SynchronousTestCase):
    def test_model_is_the_clients_or_else_the_default(self) -> None:
        """What goes on names the model of the request, the default one, or none at all."""
        for text, default, model, sent in (
            (b'"a"', "default", "a", {"model": b'"a"'}),
            (b'""', "default", "default", {"model": b'"default"'}),
            (b"null", "default", "default", {"model": b'"default"'}),
            (b'""', None, None, {}),
        ):
            members = raw(model=text)
            self.assertEqual(m.settle_model(members, Rules(default, 1000)), model)
            self.assertEqual({name: bytes(value) for name, value in members.items()}, sent)
        error = self.assertRaises(InvalidRequest, m.settle_model, {}, Rules("", 1000))
        self.assertEqual((error.code, error.param), ("invalid_model", "model"))

    def test_first_may_be_absent_beside_another(self) -> None:
        """What is asked may come in another member, unless that one is null."""
        table = (m.MESSAGES, m.STREAM)
        for other, required in ((b'"x"', False), (b"null", True)):
            first, second = m.absent_beside(table, raw(prompt=other), "prompt")
            self.assertEqual((first.required, second), (required, m.STREAM))
