"""Text of unknown origin, made fit for the terminals of those who read logs and metrics."""

from __future__ import annotations


def escaped(text: str) -> str:
    """Return `text` with each character that a terminal could obey, or not show, as ``\\u001b``.

    Control characters move the cursor or change colours, bidirectional overrides (U+202E) change
    the order in which a line is read, U+2028 begins a new one. In JSON it is the same text. Called
    for log lines, and for the names of models in metrics; raises nothing, not even for half a
    surrogate pair.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else "".join(f"\\u{unit:04x}" for unit in _utf16(character))
        for character in text
    )


def _utf16(character: str) -> tuple[int, ...]:
    """Return the UTF-16 code units of a character; JSON writes characters above U+FFFF as two.
    Called by `escaped`."""
    data = character.encode("utf-16-be", "surrogatepass")
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
