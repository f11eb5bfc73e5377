"""Tests for `infergate.api.events`.

`INFERGATE_EXAMPLES=10000` in the environment asks for that many examples a property.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.chunks import MAX_CHOICES, ChunkReader
from infergate.api.events import MAX_OPENING, EventTooLarge, Scanner, begins_as_events
from infergate.api.usage import NO_USAGE, Usage, read_usage

MIB = 1 << 20

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
READ = Usage(7, 3, 10, "backend")
DONE = b"data: [DONE]\n\n"


def delta(**members: object) -> dict[str, object]:
    """A chunk whose only choice has this delta."""
    return {"choices": [{"index": 0, "delta": members, "finish_reason": None}]}


def event(document: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(document).encode()


def scanner_of(limit: int, strip_usage: bool) -> Scanner:
    return Scanner(limit, ChunkReader(strip_usage))


def scan(
    pieces: Iterable[bytes], *, strip_usage: bool = False, limit: int = MIB
) -> tuple[bytes, Scanner]:
    """What a client gets of a stream that comes in these pieces, and what is known then."""
    scanner = scanner_of(limit, strip_usage)
    return b"".join([scanner.feed(piece) for piece in pieces]), scanner


def facts(scanner: Scanner) -> dict[str, object]:
    return {
        "heard": scanner.heard > 0,
        "done": scanner.done,
        "failed": scanner.error is not None,
        "finished": scanner.reader.finished,
        "tokens": scanner.reader.tokens,
        "usage": reported(scanner),
        "pending": scanner.pending,
        "complete": scanner.complete(),
    }


def reported(scanner: Scanner) -> Usage | None:
    """The backend's usage, where it gave any."""
    usage = scanner.reader.usage(0)
    return usage if usage.source == "backend" else None


def singly(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@attrs.frozen
class Block:
    """A part of a stream up to and with its empty line, and what it must be taken for."""

    data: bytes = b""
    document: object = None
    event: bool = True
    tokens: int = 0
    finished: bool = False
    usage: Usage | None = None
    extra: bool = False
    done: bool = False
    failed: bool = False


CHUNKS = [
    Block(document=delta(role="assistant", content="")),
    Block(document=delta(content="h\u00e9llo\u2028"), tokens=1),
    Block(document=delta(content=None, reasoning_content="so"), tokens=1),
    Block(document={"choices": [{"delta": {"content": "a"}}, {"text": "b"}]}, tokens=2),
    Block(document={"choices": [{"delta": {}, "finish_reason": "stop"}]}, finished=True),
    Block(document={**delta(content="x"), "usage": USAGE}, tokens=1, usage=READ),
    Block(document={**delta(content="x"), "usage": None, "error": None}, tokens=1),
    Block(document={"choices": [], "prompt_filter_results": []}),
    Block(document={"choices": [], "usage": None}),
    Block(document=17),
]
EXTRA = [
    Block(document={"choices": [], "usage": USAGE}, usage=READ, extra=True),
    Block(
        document={"usage": {**USAGE, "x": {}}, "timings": {"predicted_ms": 1.5}, "choices": []},
        usage=READ,
        extra=True,
    ),
]
ERRORS = [
    Block(document={"error": {"message": "CUDA", "code": 500}}, failed=True),
    Block(document={"object": "error", "message": "CUDA"}, failed=True),
]


def line_ends() -> st.SearchStrategy[bytes]:
    return st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def rendered(draw: st.DrawFn, block: Block, ends: st.SearchStrategy[bytes]) -> Block:
    """The block in bytes: its document in one data line or several, with other lines around."""
    if block.done:
        lines = [b"[DONE]"]
    else:
        indent = draw(st.sampled_from([None, None, 1]))
        ascii_only = draw(st.booleans())
        text = json.dumps(block.document, indent=indent, ensure_ascii=ascii_only)
        lines = text.encode().split(b"\n")
    lines = [draw(st.sampled_from([b"data: ", b"data:"])) + line for line in lines]
    others = st.sampled_from([b": ping", b":", b"event: message", b"id: 1", b"id", b"retry: 9"])
    for other in draw(st.lists(others, max_size=2)):
        lines.insert(draw(st.integers(0, len(lines))), other)
    return attrs.evolve(block, data=b"".join([line + draw(ends) for line in lines]))


@st.composite
def comments(draw: st.DrawFn, ends: st.SearchStrategy[bytes]) -> Block:
    lines = draw(st.lists(st.sampled_from([b": keep-alive", b":", b":data: [DONE]"]), max_size=2))
    return Block(b"".join([line + draw(ends) for line in lines]), event=False)


@st.composite
def streams(draw: st.DrawFn) -> list[Block]:
    """Blocks of a stream: chunks, comments and at most one usage chunk, often with an end."""
    ends = draw(st.sampled_from([*map(st.just, [b"\n", b"\r\n", b"\r"]), line_ends()]))
    plain = st.sampled_from(CHUNKS)
    blocks = draw(st.lists(plain.flatmap(lambda b: rendered(b, ends)) | comments(ends), max_size=5))
    if draw(st.booleans()):
        extra = draw(rendered(draw(st.sampled_from(EXTRA)), ends))
        blocks.insert(draw(st.integers(0, len(blocks))), extra)
    last = draw(st.sampled_from([None, Block(done=True), *ERRORS]))
    if last is not None:
        blocks.append(draw(rendered(last, ends)))
    whole = []
    before = b"\xef\xbb\xbf" if draw(st.booleans()) else b""
    if before:
        whole.append(Block(before, event=False))
    for block in blocks:
        before = (block.data or before)[-1:]
        # After a CR an LF would be the rest of a CRLF, and no empty line.
        empty = b"\r" if before == b"\r" else draw(ends)
        whole.append(attrs.evolve(block, data=block.data + empty))
        before = empty[-1:]
    return whole


@st.composite
def splits(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces: single bytes, or cut at up to eight places, event ends among them."""
    if draw(st.integers(0, 5)) == 0:
        return singly(data)
    ends = [match.end() for match in re.finditer(rb"[\r\n]{2,4}", data)]
    places = st.integers(0, len(data)) | st.sampled_from([0, *ends])
    cuts = sorted(draw(st.lists(places, max_size=8)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def noise() -> st.SearchStrategy[bytes]:
    """Bytes out of which nearly anything can come about."""
    words = [b"\r", b"\n", b"\r\n", b"\n\n", b":", b" ", b"data", b"data: ", b"event: error"]
    words += [
        b"[DONE]",
        b"{",
        b"}",
        b"\xff",
        b"\xef\xbb\xbf",
        b"data: [DONE]",
        b"\xef",
        b"error: {",
    ]
    words += [b"data: %b" % json.dumps(b.document).encode() for b in (*CHUNKS, *EXTRA, *ERRORS)]
    return st.lists(st.sampled_from(words) | st.binary(max_size=3), max_size=12).map(b"".join)


class PropertyTests(SynchronousTestCase):
    @given(st.data(), streams(), st.booleans(), st.sampled_from([b"", b"data: {", b"x\r\ny"]))
    def test_split_changes_nothing(
        self, data: st.DataObject, blocks: list[Block], strip: bool, tail: bytes
    ) -> None:
        """However a stream is split, the client gets its bytes less exactly the usage chunk
        that it did not ask for, and every fact is that of the blocks it is made of."""
        pieces = data.draw(splits(b"".join(b.data for b in blocks) + tail))
        out, scanner = scan(pieces, strip_usage=strip)
        self.assertEqual(out, b"".join(b.data for b in blocks if not (strip and b.extra)))
        ended = any(b.done or b.failed for b in blocks)
        usages = [b.usage for b in blocks if b.usage]
        finished = any(b.finished for b in blocks)
        failed = any(b.failed for b in blocks)
        done = any(b.done for b in blocks)
        self.assertEqual(
            facts(scanner),
            {
                "heard": any(b.event for b in blocks),
                "done": done,
                "failed": failed,
                "finished": finished,
                "tokens": sum(b.tokens for b in blocks),
                "usage": usages[-1] if usages else None,
                "pending": 0 if ended else len(tail),
                "complete": done or (finished and not tail and not failed),
            },
        )

    @given(st.data(), noise(), st.booleans())
    def test_noise_is_never_an_exception_and_no_split_changes_it(
        self, data: st.DataObject, stream: bytes, strip: bool
    ) -> None:
        """Whatever comes in, nothing is raised and no split changes what is given out."""
        expected, whole = scan([stream], strip_usage=strip)
        out, scanner = scan(data.draw(splits(stream)), strip_usage=strip)
        self.assertEqual((out, facts(scanner)), (expected, facts(whole)))
        if not strip and not scanner.over:
            self.assertEqual(out, stream[: len(stream) - scanner.pending])

    @given(st.data(), noise(), st.integers(0, 200))
    def test_limit_does_not_depend_on_the_split(
        self, data: st.DataObject, stream: bytes, limit: int
    ) -> None:
        """Which event is too large, and what is given out before it, does not depend on the
        split."""

        def bounded(pieces: list[bytes]) -> tuple[bytes, bool, bool]:
            out, scanner = b"", scanner_of(limit, False)
            try:
                for piece in pieces:
                    out += scanner.feed(piece)
            except EventTooLarge:
                return out + scanner.ready, True, scanner.heard > 0
            return out, False, scanner.heard > 0

        self.assertEqual(bounded(data.draw(splits(stream))), bounded([stream]))


TEXTS = st.sampled_from(
    ["", " ", "a", "blue", "\u00e9", 'say "hi"', "back\\slash", "\n", "content"]
)


@st.composite
def alike(draw: st.DrawFn) -> bytes:
    """One of a few chunks that differ in little more than their texts."""
    text, other = draw(TEXTS), draw(TEXTS)
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    document: object = draw(
        st.sampled_from(
            [
                {"id": "1", "choices": [choice]},
                {"id": "1", "choices": [choice], "usage": None},
                {"id": "1", "choices": [choice], "usage": USAGE},
                {"id": "1", "choices": [{**choice, "finish_reason": "stop"}]},
                {"id": "1", "choices": [{**choice, "logprobs": {"content": other}}]},
                {"id": "1", "choices": [choice, choice]},
                {"content": other, **delta(reasoning_content=text)},
                delta(role="assistant", content=text),
                delta(tool_calls=[{"function": {"arguments": other, "content": text}}]),
                {"content": text, "choices": []},
                {"content": text, "choices": [], "usage": USAGE},
                {"content": text, "error": None},
            ]
        )
    )
    spaces = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    return b"data: %b\n\n" % json.dumps(document, separators=spaces).encode()


OTHERS = [
    DONE,
    b"\n",
    b": ping\n\n",
    event({"error": {"message": "x"}}),
    event({"choices": [], "usage": USAGE}),
    b"event: x\ndata: 1\n\n",
]


class AlikeTests(SynchronousTestCase):
    @given(st.lists(alike(), max_size=12), st.booleans(), line_ends())
    def test_chunk_is_taken_for_what_it_is_whichever_came_before(
        self, events: list[bytes], strip: bool, line_end: bytes
    ) -> None:
        """Each chunk is taken for what it is, whichever came before it, and however lines end."""
        events = [one.replace(b"\n", line_end) for one in events]
        passed, scanner = scan([b": hi\n\n", *events], strip_usage=strip)
        alone = [scan([b": hi\n\n", one], strip_usage=strip) for one in events]
        self.assertEqual(
            passed, b": hi\n\n" + b"".join(out[len(b": hi\n\n") :] for out, _ in alone)
        )
        self.assertEqual(scanner.reader.tokens, sum(one.reader.tokens for _, one in alone))
        self.assertEqual(scanner.heard > 0, bool(events))
        self.assertEqual(scanner.reader.finished, any(one.reader.finished for _, one in alone))
        self.assertEqual(reported(scanner) is None, all(reported(one) is None for _, one in alone))

    @given(st.lists(st.tuples(alike() | st.sampled_from(OTHERS), st.integers(1, 6))), st.booleans())
    def test_many_in_one_read_are_what_each_is(
        self, runs: list[tuple[bytes, int]], strip: bool
    ) -> None:
        """The same comes of many events in one read as of each in its own."""
        events = [one for one, count in runs for _ in range(count)]
        passed, one_by_one = scan([b": hi\n\n", *events], strip_usage=strip)
        for pieces in ([b": hi\n\n", b"".join(events)], [b"".join([b": hi\n\n", *events])]):
            at_once, scanner = scan(pieces, strip_usage=strip)
            self.assertEqual(at_once, passed)
            self.assertEqual(scanner.reader.tokens, one_by_one.reader.tokens)
            self.assertEqual(
                (scanner.heard > 0, scanner.over, scanner.error, scanner.reader.usage(0)),
                (
                    one_by_one.heard > 0,
                    one_by_one.over,
                    one_by_one.error,
                    one_by_one.reader.usage(0),
                ),
            )

    def test_end_and_error_are_seen_after_many_alike(self) -> None:
        """So are the end and an error that come after many alike."""
        many = [event(delta(content=word)) for word in ("a", "b", "c")]
        self.assertTrue(scan([*many, DONE])[1].done)
        for error in (event({"error": {"message": "x"}}), b"event: error\n" + many[0]):
            passed, scanner = scan([*many, error, *many])
            self.assertEqual(
                (passed, (scanner.error is not None)), (b"".join([*many, error]), True)
            )
            self.assertEqual(
                scanner.reader.tokens, 3 + (error != event({"error": {"message": "x"}}))
            )

    def test_empty_text_is_no_token(self) -> None:
        """A chunk with an empty text is no token, though it is like the others."""
        texts = [event(delta(content=text)) for text in ("a", "b", "", "c")]
        self.assertEqual(scan(texts)[1].reader.tokens, 3)


class EventTests(SynchronousTestCase):
    def test_event_goes_out_when_its_empty_line_is_there(self) -> None:
        """An event goes out the moment its empty line is there, and not a byte before."""
        scanner = scanner_of(MIB, False)
        self.assertEqual(scanner.feed(b": hi\n\ndata: 1\n\ndata: 2\n"), b": hi\n\ndata: 1\n\n")
        self.assertEqual((scanner.heard, scanner.pending), (1, 8))
        self.assertEqual(scanner.feed(b"\n"), b"data: 2\n\n")
        self.assertEqual((scanner.heard, scanner.pending), (2, 0))

    def test_carriage_return_ends_a_line_at_once(self) -> None:
        """A CR ends a line at once; the LF of a CRLF that comes in two pieces follows later."""
        scanner = scanner_of(MIB, False)
        self.assertEqual(scanner.feed(b"data: 1\r\n\r"), b"data: 1\r\n\r")
        self.assertEqual(scanner.feed(b""), b"")
        self.assertEqual(scanner.feed(b"\ndata: 2\r\r"), b"\ndata: 2\r\r")
        self.assertEqual(scanner.feed(b"data: 3\r\rdata: 4"), b"data: 3\r\r")
        self.assertEqual(scanner.feed(b"\n"), b"")
        self.assertEqual(scanner.feed(b"\n"), b"data: 4\n\n")
        end = b"data: [DONE]\r\r"
        self.assertEqual(scanner.feed(end + b"data: 5\n\n"), end)

    def test_byte_order_mark_belongs_to_no_field(self) -> None:
        """A byte order mark before the first event is passed on and belongs to no field."""
        stream = b"\xef\xbb\xbf" + DONE
        for pieces in ([stream], singly(stream)):
            out, scanner = scan(pieces)
            self.assertEqual((out, scanner.done), (stream, True))

    def test_several_data_lines_are_one_document(self) -> None:
        """Data in several lines is one document, whatever ends the lines."""
        for end in (b"\n", b"\r\n", b"\r"):
            lines = [b'data: {"choices": [', b'data:{"delta": {"content": "x"}}]}', b"", b""]
            self.assertEqual(scan([end.join(lines)])[1].reader.tokens, 1)

    def test_event_without_data_is_passed_on(self) -> None:
        """An event with nothing in its data is passed on like any other."""
        out, scanner = scan([b"data:\n\n", b"data\n\n", b"id: 4\n\n"])
        self.assertEqual((out, scanner.heard), (b"data:\n\ndata\n\nid: 4\n\n", 3))

    def test_large_event_arrives_unchanged(self) -> None:
        """An event of a MiB arrives unchanged, a few bytes at a time."""
        large = event(delta(content="x" * MIB))
        out, scanner = scan(
            [large[i : i + 1000] for i in range(0, len(large), 1000)], limit=2 * MIB
        )
        self.assertEqual((out == large, scanner.reader.tokens), (True, 1))

    def test_event_over_the_limit_is_a_fault(self) -> None:
        """An event over the limit is a fault, whole or not; what stood before it is ready."""
        first = b"data: 1\n\n"
        for rest in (b"data: 345678", b"data: 345678\n\n"):
            scanner = scanner_of(11, False)
            self.assertEqual(scanner.feed(first), first)
            self.assertRaises(EventTooLarge, scanner.feed, first + rest)
            self.assertEqual((scanner.ready, scanner.heard), (first, 2))
            self.assertFalse(scanner.complete())
            self.assertRaises(EventTooLarge, scanner.feed, b"\n\n")
            self.assertEqual(scanner.ready, b"")

    def test_empty_line_does_not_count_towards_the_limit(self) -> None:
        """The limit counts an event's lines and not the empty one that ends it."""
        self.assertEqual(scan([b"data: 345\r\n\r\n"] * 2, limit=11)[0], b"data: 345\r\n\r\n" * 2)


class BeginningTests(SynchronousTestCase):
    def test_stream_is_told_by_its_beginning(self) -> None:
        """What begins with a field or a comment is an event stream, and no JSON is one."""
        for begins in (b"data: x\n\n", b": x", b"event:y", b"\r\nid\n", b"\xef\xbb\xbfretry:1"):
            self.assertTrue(begins_as_events(begins))
        for other in (b"{}", b' {"data":1}', b"[", b"<html>", b"database", b"null", b"\xef\xbbx"):
            self.assertIs(begins_as_events(other), False)
        self.assertIs(begins_as_events(b"\n" * MAX_OPENING), False)

    @given(st.binary(max_size=12) | st.text("data: evntiry\n\r{", max_size=12).map(str.encode))
    def test_more_bytes_change_no_verdict(self, data: bytes) -> None:
        """Once it is told from a beginning, what follows does not matter."""
        verdicts = [begins_as_events(data[:end]) for end in range(len(data) + 1)]
        told = [verdict for verdict in verdicts if verdict is not None]
        self.assertEqual(verdicts[len(verdicts) - len(told) :], told)
        self.assertLessEqual(len(set(told)), 1)


class EndTests(SynchronousTestCase):
    def test_done_goes_out_and_nothing_after_it(self) -> None:
        """``[DONE]`` goes out, with or without the space; nothing goes out after it."""
        for end in (b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b"id: 1\ndata: [DONE]\n: x\n\n"):
            for pieces in (
                [end + b"data: 1\n\n"],
                [end + b": x\n\n"],
                [end, b"data: 1\n\n"],
                [end, b"1"],
            ):
                out, scanner = scan([b"data: 0\n\n", *pieces])
                self.assertEqual(out, b"data: 0\n\n" + end)
                self.assertEqual((scanner.heard, scanner.pending), (2, 0))
                self.assertTrue(scanner.done and scanner.complete())

    def test_only_the_exact_done_is_passed_on(self) -> None:
        """What some client takes for ``[DONE]`` ends the stream too, and is left out, so that the
        exact one can follow."""
        for near in (b"[DONE] ", b" [DONE]", b"[DONE]\ndata:", b"\t[DONE]", b"[DONE]x"):
            for stream in (b"data: %b\n\n" % near, b": x\ndata: %b\n\n" % near):
                for pieces in ([stream, b"data: 1\n\n"], singly(stream + b"data: 1\n\n")):
                    out, scanner = scan(pieces)
                    self.assertEqual(
                        (out, scanner.done, scanner.ended, scanner.complete()),
                        (b"", False, True, True),
                    )
            self.assertFalse(scan([b"data: 1\n\ndata: %b" % near])[1].complete())
            finish = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            self.assertTrue(scan([finish + b"data: %b" % near])[1].complete(framed=False))

    def test_what_no_client_takes_for_done_is_passed_on(self) -> None:
        """Data that only resembles ``[DONE]`` is data like any other."""
        for far in (b"[done]", b'"[DONE]"', b"DONE", b"x[DONE]", b"[ DONE]", b"[]"):
            stream = b"data: %b\n\n" % far
            out, scanner = scan([stream])
            self.assertEqual((out, scanner.ended), (stream, False))

    def test_finished_stream_needs_no_done(self) -> None:
        """A stream with a finish reason needs no ``[DONE]``, but must not end inside an event."""
        finish = event({"choices": [{"delta": {}, "finish_reason": "length"}]})
        for tail, complete in ((b"", True), (b"\n\r\n", True), (b" ", True), (b"data: [", False)):
            self.assertIs(scan([finish, tail])[1].complete(), complete)

    def test_every_choice_must_have_finished(self) -> None:
        """A stream of several choices whose end is cut off in one of them was cut short, in
        whichever chunks they come; ``[DONE]`` says that it is whole."""

        def choice(index: int, reason: str | None) -> dict[str, object]:
            return {"index": index, "delta": {"content": "x"}, "finish_reason": reason}

        def stream(*chunks: list[dict[str, object]]) -> bytes:
            return b"".join(event({"choices": chunk}) for chunk in chunks)

        first, second = choice(0, None), choice(1, None)
        first_end, second_end = choice(0, "stop"), choice(1, "length")
        for whole in (
            stream([first], [second], [second_end], [first_end]),
            stream([first, second], [first_end, second_end]),
            stream([first_end], [second_end], [first]),
        ):
            self.assertTrue(scan([whole])[1].complete())
        for cut in (
            stream([first], [second], [first_end]),
            stream([first_end, second]),
            stream([first_end], [second]),
        ):
            self.assertFalse(scan([cut])[1].complete())
            self.assertTrue(scan([cut, DONE])[1].complete())

    def test_choices_are_told_apart_up_to_a_number(self) -> None:
        """A stream with more choices than can be told apart ends well with ``[DONE]`` alone."""
        finish = [
            event({"choices": [{"index": index, "finish_reason": "stop"}]})
            for index in range(MAX_CHOICES + 1)
        ]
        self.assertTrue(scan(finish[:-1])[1].complete())
        self.assertFalse(scan(finish)[1].complete())
        self.assertTrue(scan([*finish, DONE])[1].complete())

    def test_stream_without_an_end_was_cut_short(self) -> None:
        """A stream without ``[DONE]`` or a finish reason was cut short; an empty reason is none."""
        for reason in (None, "", 1):
            document = {"choices": [{"delta": {"content": "x"}, "finish_reason": reason}]}
            self.assertFalse(scan([event(document)])[1].complete())
        self.assertFalse(scan([])[1].complete())

    def test_error_of_the_backends_own_goes_out_once(self) -> None:
        """The backend's own error, in any of its forms, goes out once and nothing after it."""
        finish = event({"choices": [{"finish_reason": "stop"}]})
        for error in (
            event({"error": {"message": "CUDA"}}),
            event({"error": "CUDA"}),
            event({"error": {}, "choices": "?", "usage": USAGE}),
            event({"error": {}, "choices": [], "usage": USAGE}),
            b'data: {"error": 1e999}\n\n',
            event({"object": "error", "message": "CUDA"}),
            b'event: error\ndata: {"message": "CUDA"}\n\n',
            b"event:error\ndata: [DONE]\n\n",
            b'error: {"message": "CUDA"}\r\n\r\n',
        ):
            for pieces in ([error + DONE], [error, DONE], singly(error + DONE)):
                out, scanner = scan([finish, *pieces], strip_usage=True)
                self.assertEqual(out, finish + error)
                self.assertEqual(((scanner.error is not None), scanner.done), (True, False))
                self.assertFalse(scanner.complete())

    def test_traceback_in_an_error_is_not_shown(self) -> None:
        """An error event that holds a traceback or a page, escaped or not, ends the stream and is
        left out."""
        for text in ("Trac\\u0065back (most recent call last)", "\\u003chtml>", "<html>"):
            for error in (
                b'data: {"error":{"message":"%b"}}\n\n' % text.encode(),
                b'event: error\ndata: {"message":"%b"}\n\n' % text.encode(),
            ):
                out, scanner = scan([b"data: 1\n\n", error, b"data: 2\n\n"])
                self.assertEqual(out, b"data: 1\n\n")
                self.assertTrue(scanner.error is not None and not scanner.error_shown)

    def test_null_error_is_none(self) -> None:
        """A null error, an error in another place or a field named error is none."""
        for fine in (
            event({"error": None}),
            event({"choices": [{"delta": {"content": '"error": {}'}, "error": {}}]}),
            event([{"error": {}}]),
            b"error: none\n\n",
            b"event: errors\ndata: {}\n\n",
            b': {"error": {}}\n\n',
        ):
            self.assertIsNone(scan([fine])[1].error)


class AccountTests(SynchronousTestCase):
    def test_usage_chunk_is_for_who_asked(self) -> None:
        """A chunk of usage alone is recorded, and kept for a client that asked for it."""
        stream = event(delta(content="x")) + event({"choices": [], "usage": USAGE, "timings": {}})
        for strip, out in ((True, event(delta(content="x"))), (False, stream)):
            for pieces in ([stream], singly(stream)):
                self.assertEqual(scan(pieces, strip_usage=strip)[0], out)
                self.assertEqual(scan(pieces, strip_usage=strip)[1].reader.usage(0), READ)

    def test_usage_chunk_goes_with_both_halves_of_its_line_end(self) -> None:
        """A usage chunk is removed with both halves of its last CRLF, and no byte more."""
        scanner = scanner_of(MIB, True)
        extra = event({"choices": [], "usage": USAGE}).replace(b"\n", b"\r\n")
        self.assertEqual(scanner.feed(extra[:-1]), b"")
        self.assertEqual(scanner.feed(b"\n\ndata: 1\n\n"), b"\ndata: 1\n\n")
        self.assertEqual(scanner.feed(extra[:-1]), b"")
        self.assertEqual(scanner.feed(b"data: 2\n\n"), b"data: 2\n\n")
        self.assertEqual(scanner.feed(b"\ndata: 3\n\n"), b"\ndata: 3\n\n")
        extra = event({"choices": [], "usage": USAGE})
        self.assertEqual(scanner.feed(b"data: 4\n\n\n" + extra), b"data: 4\n\n\n")

    def test_usage_beside_choices_is_recorded_and_stays(self) -> None:
        """Usage beside a choice is recorded, the last one counts, and the chunk stays."""
        first = event({**delta(content="x"), "usage": {**USAGE, "completion_tokens": 1}})
        last = event({**delta(), "usage": USAGE})
        out, scanner = scan([first, last, event({**delta(), "usage": None})], strip_usage=True)
        self.assertTrue(out.startswith(first + last))
        self.assertEqual(reported(scanner), READ)

    def test_nonsense_usage_hides_nothing(self) -> None:
        """Usage that makes no sense is ignored, and does not hide what stands beside it."""
        nonsense: list[object] = [None, 1, "many", [], {}]
        counts: list[object] = ["7", -1, 1.5, True, [], 10**400]
        for count in counts:
            nonsense += [{"prompt_tokens": count}, {**USAGE, "completion_tokens": count}]
        for usage in nonsense:
            scanner = scan([event({**delta(content="x"), "usage": usage})], strip_usage=True)[1]
            self.assertEqual((reported(scanner), scanner.reader.tokens), (None, 1))

    def test_count_left_out_is_0_and_total_the_sum(self) -> None:
        """A count that the backend left out is 0, and a total left out is the sum."""
        self.assertEqual(read_usage(b'{"prompt_tokens": 7}'), Usage(7, 0, 7, "backend"))
        self.assertEqual(
            read_usage(b'{"prompt_tokens":7,"completion_tokens":3,"total_tokens":null}'), READ
        )

    def test_choices_of_unknown_shape_do_not_hide_usage(self) -> None:
        """Choices of an unknown shape do not hide usage; only an empty list makes it extra."""
        stream = event({"choices": [], "usage": None})
        self.assertEqual(scan([stream], strip_usage=True)[0], stream)
        shapes: list[object] = ["none", [1], {}, None, [{"delta": "x"}]]
        for choices in shapes:
            stream = event({"choices": choices, "usage": USAGE})
            out, scanner = scan([stream], strip_usage=True)
            self.assertEqual((out, reported(scanner)), (stream, READ))

    def test_stream_without_usage_is_counted(self) -> None:
        """Without usage from the backend its deltas are counted, from the first event on beside an
        estimate of the prompt, and are said to be."""
        self.assertEqual(scan([b": content\n\n", DONE])[1].reader.usage(5), NO_USAGE)
        self.assertEqual(scan([b"data: x\n\n"])[1].reader.usage(5), Usage(5, 0, 5, "counted"))
        counted = scan([event(delta(content="x")) * 3])[1].reader.usage(5)
        self.assertEqual(counted, Usage(5, 3, 8, "counted"))

    def test_data_that_no_parser_likes_is_passed_on(self) -> None:
        """Data that is no JSON, or JSON that no parser likes, goes on and counts as nothing."""
        for data in (b"<html>", b"{", b"\xff", b'{"choices":' + b"[" * 10000, b'{"object":"\xff"}'):
            out, scanner = scan([b"data: %b\n\n" % data])
            self.assertEqual((out, scanner.heard), (b"data: %b\n\n" % data, 1))
            self.assertEqual(scanner.reader.tokens, 0)
