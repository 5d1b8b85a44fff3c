"""Requests come out of every log the same, and nothing a client sends stops the reading."""

from __future__ import annotations

import gzip
import json
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shopward.errors import BadData, UsageError
from shopward.traffic import Reading, Request, read_requests
from shopward.traffic.decode import INFLATED, views
from shopward.traffic.positions import Positions
from shopward.traffic.requests import event_of

LINE = '198.51.100.7 - ann [10/Oct/2026:13:55:36 +0800] "GET /p/1?q=%E7%BA%A2 HTTP/1.1" 200 512 "https://shop.example/" "Mozilla/5.0"'
MOMENT = 1_791_611_736_000


def read(path, **options):
    reading = Reading()
    return list(read_requests(path, reading=reading, **options)), reading


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def seen(request):
    return (request.ip, request.ts, request.method, request.path, request.query, request.status, request.user_agent)


EXPECTED = ("198.51.100.7", MOMENT, "GET", "/p/1", [("q", "红")], 200, "Mozilla/5.0")
REQ = {
    "id": "r1", "ip": "198.51.100.7", "ts": "2026-10-10T05:55:36Z", "method": "GET", "url": "/p/1?q=%E7%BA%A2", "status": 200,
    "headers": {"User-Agent": "Mozilla/5.0"},
}  # fmt: skip
NGINX = {
    "time_iso8601": "2026-10-10T13:55:36+08:00", "remote_addr": "198.51.100.7", "request": "GET /p/1?q=%E7%BA%A2 HTTP/1.1",
    "status": "200", "http_user_agent": "Mozilla/5.0",
}  # fmt: skip
CADDY = {
    "ts": 1791611736.0, "status": 200,
    "request": {"remote_ip": "198.51.100.7", "method": "GET", "uri": "/p/1?q=%E7%BA%A2", "headers": {"User-Agent": ["Mozilla/5.0"]}},
}  # fmt: skip
HAR = {
    "log": {
        "entries": [
            {
                "startedDateTime": "2026-10-10T05:55:36.000Z", "_clientIPAddress": "198.51.100.7",
                "request": {
                    "method": "GET", "url": "https://shop.example/p/1?q=%E7%BA%A2",
                    "headers": [{"name": "User-Agent", "value": "Mozilla/5.0"}],
                },
                "response": {"status": 200, "headers": [], "content": {"text": "ok"}},
            }
        ]
    }
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.log", LINE),
        ("a.log.gz", gzip.compress(LINE.encode())),
        ("req.ndjson", json.dumps(REQ)),
        ("nginx.log", json.dumps(NGINX)),
        ("caddy.json", json.dumps(CADDY)),
        ("a.har", json.dumps(HAR)),
        ("a.csv", 'id,ip,ts,method,url,status,headers\nr1,198.51.100.7,2026-10-10T05:55:36Z,GET,/p/1?q=%E7%BA%A2,200,"{""User-Agent"": ""Mozilla/5.0""}"\n'),
    ],
)  # fmt: skip
def test_one_request_reads_the_same_from_every_format(tmp_path, name, content):
    found, reading = read(write(tmp_path, name, content))
    assert [seen(r) for r in found] == [EXPECTED]
    assert reading.dead.count == 0


def test_parquet_rows_with_headers_as_struct_or_text_read_the_same(tmp_path):
    pq.write_table(pa.Table.from_pylist([REQ]), tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist([{**REQ, "headers": json.dumps(REQ["headers"])}]), tmp_path / "b.parquet")
    found, _ = read(tmp_path)
    assert [seen(r) for r in found] == [EXPECTED, EXPECTED]


@pytest.mark.parametrize(
    "format",
    [
        '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
        '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"',
    ],
)
def test_custom_formats_of_apache_and_nginx(tmp_path, format):
    found, _ = read(write(tmp_path, "a.log", LINE), format=format)
    assert [seen(r) for r in found] == [EXPECTED]
    assert found[0].account == "ann"


def test_a_format_without_a_request_is_refused(tmp_path):
    with pytest.raises(UsageError, match="has no request"):
        read(write(tmp_path, "a.log", LINE), format="%h %t")


def test_truncated_lines_are_counted_and_the_rest_goes_on(tmp_path):
    found, reading = read(write(tmp_path, "a.log", f"{LINE}\n{LINE[:60]}\n\n{LINE}\n"))
    assert len(found) == 2
    assert reading.dead.why().startswith("no access log line in combined format (1; first at ")


def test_a_truncated_json_line_is_one_dead_letter_that_shows_no_value(tmp_path):
    path = write(tmp_path, "a.ndjson", json.dumps(REQ) + '\n{"method": "GET", "url": "/?token=secret\n')
    found, reading = read(path)
    assert len(found) == 1 and reading.dead.count == 1


def test_wrong_encodings_lose_no_byte(tmp_path):
    line = LINE.encode().replace(b"ann", "ä".encode("latin-1"))
    found, reading = read(write(tmp_path, "a.log", line))
    assert found[0].account == "ä" and reading.dead.count == 0
    broken = json.dumps(REQ).encode().replace(b"Mozilla", b"Moz\xff\xfe")
    assert read(write(tmp_path, "b.ndjson", broken))[0][0].user_agent == "Mozÿþ/5.0"


def test_null_bytes_and_tls_on_a_plain_port_are_requests_too(tmp_path):
    found, _ = read(write(tmp_path, "a.log", LINE.replace("GET /p/1?q=%E7%BA%A2 HTTP/1.1", r"\x16\x03\x01\x00")))
    assert (found[0].method, found[0].url) == ("-", "\x16\x03\x01\0")


def test_a_url_of_a_megabyte_is_read(tmp_path):
    found, _ = read(write(tmp_path, "a.log", LINE.replace("/p/1", "/" + "a" * 1_000_000)))
    assert len(found[0].path) == 1_000_001


def test_a_line_longer_than_a_line_may_be_is_skipped_in_pieces(tmp_path):
    found, reading = read(write(tmp_path, "a.log", b"x" * (9 << 20) + b"\n" + LINE.encode()))
    assert len(found) == 1
    assert reading.dead.why().startswith("a line over 8 MB")


def test_a_compressed_bomb_is_cut_at_a_megabyte():
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b"a" * 1_000_000) for _ in range(200)) + packer.flush()
    request = Request(id="1", method="POST", url="/", headers={"Content-Encoding": "gzip"}, body=bomb)
    assert len(request.body) == INFLATED
    assert request.oddities == ["body cut at 1048576 bytes"]


def test_a_hundred_thousand_parameters_are_all_looked_at():
    url = "/?" + "&".join(f"p{i}=v{i}" for i in range(100_000))
    request = Request(id="1", method="GET", url=url)
    fields = request.fields()
    assert len(fields) == 20_001 and fields[-1].value.endswith("p99999=v99999")
    assert request.oddities == ["100001 values"]


@pytest.mark.parametrize(
    ("type", "body", "kind", "said"),
    [
        ("application/json", "a=1&b=2", "form", "content type says json, the body is form"),
        ("application/x-www-form-urlencoded", '{"a": 1}', "json", "content type says form, the body is json"),
        ("text/plain", '{"a": "1"}', "json", None),
        ("image/png", "a=1", "form", None),
    ],
)  # fmt: skip
def test_contradictory_content_types_are_read_as_what_they_are(type, body, kind, said):
    request = Request(id="1", method="POST", url="/", headers={"Content-Type": type}, body=body)
    assert request.body_kind == kind
    assert (request.oddities[0] if said else None) == said
    assert "1" in "".join(f.value for f in request.fields() if f.place != "header")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_json_is_read_as_far_as_it_goes(opening):
    for depth in (100, 100_000):
        request = Request(
            id="1", method="POST", url="/", headers={"Content-Type": "application/json"}, body=opening * depth
        )
        assert request.fields()[-1].place == "body"
    closed = "[" * 500 + '"x"' + "]" * 500
    fields = Request(id="1", method="POST", url="/", body=closed).fields()
    assert '"x"' in fields[-1].value


def test_multipart_parts_have_their_names_and_files():
    body = '--B\r\nContent-Disposition: form-data; name="f"; filename="a.php"\r\nContent-Type: image/png\r\n\r\n<?php\r\n--B--\r\n'
    request = Request(
        id="1", method="POST", url="/", headers={"content-type": "multipart/form-data; boundary=B"}, body=body
    )
    part = request.parts[0]
    assert (part.name, part.filename, part.type, part.content) == ("f", "a.php", "image/png", b"<?php")


def test_reading_resumes_where_it_stopped(tmp_path):
    path = write(tmp_path, "a.ndjson", "\n".join(json.dumps({**REQ, "id": f"r{i}"}) for i in range(10)))
    assert [r.id for r in read(path, skip=7)[0]] == ["r7", "r8", "r9"]


def logged(*numbers):
    return "".join(LINE.replace("/p/1", f"/p/{n}").replace(":13:55:36", f":13:55:{n:02d}") + "\n" for n in numbers)


def go_on(tmp_path, *paths):
    """What a run with a position file reads of the logs."""
    positions = Positions(tmp_path / "positions.json")
    reading = Reading()
    found = [r.path for r in read_requests(list(paths), reading=reading, positions=positions)]
    positions.save()
    return found, reading


def test_a_growing_log_is_read_from_where_the_last_run_stopped(tmp_path):
    path = write(tmp_path, "access.log", logged(1, 2) + logged(3)[:40])
    found, reading = go_on(tmp_path, path)
    assert (found, reading.waiting) == (["/p/1", "/p/2"], 1)
    path.write_text(logged(1, 2, 3, 4))
    assert go_on(tmp_path, path)[0] == ["/p/3", "/p/4"]
    assert go_on(tmp_path, path)[0] == []


@pytest.mark.parametrize("pack", [None, gzip.compress])
def test_a_rotated_log_is_read_to_its_end_before_the_new_one(tmp_path, pack):
    path = write(tmp_path, "access.log", logged(1, 2))
    assert go_on(tmp_path, path)[0] == ["/p/1", "/p/2"]
    old = logged(1, 2, 3).encode()
    (tmp_path / ("access.log.1.gz" if pack else "access.log.1")).write_bytes(pack(old) if pack else old)
    path.write_text(logged(7, 8))
    assert go_on(tmp_path, path)[0] == ["/p/3", "/p/7", "/p/8"]
    assert go_on(tmp_path, path)[0] == []


def test_ids_of_a_growing_log_stay_the_same_from_run_to_run(tmp_path):
    path = write(tmp_path, "access.log", logged(1))
    positions = Positions(tmp_path / "p.json")
    (first,) = read_requests(path, positions=positions)
    path.write_text(logged(1, 2))
    (second,) = read_requests(path, positions=positions)
    assert first.id.split(":")[0] == second.id.split(":")[0] and second.id.endswith(":2")


def test_a_position_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(BadData, match="no position file"):
        Positions(write(tmp_path, "p.json", "[1, 2"))


def test_requests_without_id_are_named_by_file_and_line_always_the_same(tmp_path):
    first, _ = read(write(tmp_path, "a.log", f"{LINE}\n{LINE}\n"))
    again, _ = read(write(tmp_path, "b.log", f"{LINE}\n{LINE}\n"))
    assert [r.id for r in first] == [r.id for r in again] and first[0].id.endswith(":1")


def test_a_request_becomes_an_event_of_the_spine():
    event = event_of(Request(**{**REQ, "ts": MOMENT}))
    assert (event["type"], event["event_id"], event["path"], event["status"]) == ("http_request", "r1", "/p/1", 200)


def test_decoding_is_nested_at_most_five_deep_and_bounded():
    value = "<script>"
    for _ in range(9):
        value = value.replace("%", "%25").replace("<", "%3C")
    assert max(v.how.count("url") for v in views(value)) == 5
    for hostile in (
        "%25" * 300_000,
        "&amp;" * 200_000,
        "&" * 1_000_000,
        "\\u0025" * 150_000,
        "QUFB" * 250_000,
        "＜" * 300_000,
    ):
        assert sum(len(v.text) for v in views(hostile)) <= 6 * len(hostile) + 4096
