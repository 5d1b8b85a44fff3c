"""What the HTTP front answers to events that are only observed."""

from __future__ import annotations

import asyncio

import httpx
import msgspec

from shopward.serve.app import App
from tests.rules.test_observed import STREAM, engine
from tests.serve.test_http import TOKEN


def test_an_observed_event_is_answered_clearly_also_when_it_is_sent_again(tmp_path):
    async def story(app: App) -> list[httpx.Response]:
        app.decider.start()
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop", headers=headers) as c:
            single = [await c.post("/v1/decide", json=STREAM[0]) for _ in range(2)]
            batch = await c.post(
                "/v1/decide/batch", content=msgspec.json.Encoder().encode_lines(STREAM) + b"nonsense\n"
            )
        await app.decider.stop()
        return [*single, batch]

    first, again, batch = asyncio.run(story(App(engine(data=tmp_path), TOKEN)))
    assert first.json() == again.json() == {"event_id": "e0", "type": "http_request", "decision": None}
    lines = [msgspec.json.decode(line) for line in batch.content.splitlines()]
    assert [line.get("action", line.get("decision", "?")) for line in lines] == [
        None,
        "allow",
        None,
        None,
        "review",
        None,
        "?",
    ]
    assert lines[6]["line"] == 7
