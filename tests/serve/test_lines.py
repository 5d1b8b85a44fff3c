"""However a stream of lines is cut into messages, every line comes once under its number, or what is wrong with it."""

from __future__ import annotations

import asyncio

import pytest

from shopward.serve.http import MAX_EVENT, lines_as_they_come

LONG = b'{"a": "' + b"x" * MAX_EVENT + b'"}'
BODIES = {
    "short": b'{"a": 1}\n\n{"a": 2}\n',
    "no end": b'{"a": 1}\n{"a": 2}',
    "long": LONG + b"\n",
    "long, no end": LONG,
    "long last": b'{"a": 1}\n' + LONG,
    "long between": b'{"a": 1}\n' + LONG + b'\n{"a": 2}\n',
    "two long": LONG + b"\n" + LONG + b"\n",
}


def read(body: bytes, size: int) -> dict[int, bytes | str]:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    messages = iter(
        [*({"type": "http.request", "body": part, "more_body": True} for part in parts), {"type": "http.request"}]
    )

    async def receive() -> dict:
        return next(messages)

    async def collect() -> list[tuple[int, bytes | str]]:
        return [line async for block in lines_as_they_come({"headers": []}, receive) for line in block.numbered()]

    found = asyncio.run(collect())
    assert len(found) == len(dict(found)), "a line came twice"
    return dict(found)


@pytest.mark.parametrize("size", [7_001, 65_536, MAX_EVENT, 2 << 20])
@pytest.mark.parametrize("name", BODIES)
def test_every_line_comes_once_however_the_stream_is_cut(name, size):
    found = read(BODIES[name], size)
    for number, line in enumerate(BODIES[name].split(b"\n"), 1):
        if len(line) > MAX_EVENT:
            assert found.pop(number) == "an event may have 262,144 bytes"
        elif line.strip():
            assert found.pop(number) == line
    assert found == {}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_in_one_message_is_read_the_same(name):
    async def collect() -> list[tuple[int, bytes | str]]:
        async def receive() -> dict:
            return {"type": "http.request", "body": BODIES[name]}

        return [line async for block in lines_as_they_come({"headers": []}, receive) for line in block.numbered()]

    assert dict(asyncio.run(collect())) == read(BODIES[name], 65_536)
