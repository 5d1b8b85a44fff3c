"""Reads requests from whatever was logged: access logs, JSON logs, HAR, NDJSON and tables of requests; packed files too.

One pass, bounded memory: a line longer than LINE is a dead letter, a line that is no request is a dead letter, and both are counted.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from shopward.errors import BadData, UsageError
from shopward.ingest.blocks import BOM, STDIN, Input, open_input
from shopward.ingest.dead import DeadLetters, mask_text
from shopward.traffic.decode import text_of
from shopward.traffic.formats import LineReader, combined, json_line, line_reader
from shopward.traffic.positions import Mark, Positions, Unpacked, first_line_id
from shopward.traffic.positions import skip as skip_bytes
from shopward.traffic.requests import LowerCase, Request

LINE = 8 << 20  # bytes of one line
BLOCK = 1 << 16  # bytes read at once
HAR = 256 << 20  # bytes of one HAR document, which has to be held
TABLE_ROWS = 2048
PACKED = (".gz", ".zst")
MISSING = ("", "-", None)

Progress = Callable[[int], None]


@dataclass(slots=True)
class Reading:
    """What a reading met: how many requests, and what could not be used and why. `position` is the last request's file and line."""

    requests: int = 0
    dead: DeadLetters = field(default_factory=DeadLetters)
    position: tuple[str, int] = ("", 0)
    waiting: int = 0  # last lines without their end, left for the next run


def read_requests(
    paths: Iterable[Path | str] | Path | str,
    *,
    format: str | None = None,
    reading: Reading | None = None,
    skip: int = 0,
    positions: Positions | None = None,
    on_progress: Progress = lambda done: None,
) -> Iterator[Request]:
    """The requests of files, folders or `-` (piped in), in order of file name and line.

    `format` is None (by the file's ending and first line), `combined`, `json`, `har`, `req`, or a log format of Apache
    (`%h %l %u %t "%r" %>s %b`) or nginx (`$remote_addr [$time_local] "$request" $status`). `skip` passes over that many requests.
    With `positions` each log is read from where an earlier run stopped; they are saved by the caller. `on_progress` is told how many requests came since its last call. Raises UsageError for a path or format that is none.

    >>> import tempfile, pathlib
    >>> log = pathlib.Path(tempfile.mkdtemp(), "a.log")
    >>> _ = log.write_text('1.2.3.4 - ann [10/Oct/2026:13:55:36 +0000] "GET /a?q=1 HTTP/1.1" 200 12 "-" "curl/8"\\nbroken line\\n')
    >>> reading = Reading()
    >>> [(r.ip, r.path, r.status, r.user_agent) for r in read_requests(log, reading=reading)], reading.dead.count
    ([('1.2.3.4', '/a', 200, 'curl/8')], 1)
    """
    reading = Reading() if reading is None else reading
    told = 0
    for path, id in _in_turn(expand(paths), positions):
        for request in _read_file(path, format, reading, positions, id):
            reading.requests += 1
            if reading.requests > skip:
                yield request
            if reading.requests - told >= 1024:
                on_progress(reading.requests - told)
                told = reading.requests
    on_progress(reading.requests - told)


def expand(paths: Iterable[Path | str] | Path | str) -> list[Path | str]:
    """Files in order of name; a folder gives its visible files."""
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    found: list[Path | str] = []
    for one in given:
        path = Path(one)
        if str(one) == STDIN:
            found.append(STDIN)
        elif path.is_dir():
            inside = [p for p in path.rglob("*") if p.is_file() and not p.name.startswith((".", "_"))]
            if not inside:
                raise UsageError(f"{path}: there is no file in this folder")
            found.extend(sorted(inside, key=str))
        elif not path.exists():
            raise UsageError(f"{path}: there is no such file")
        else:
            found.append(path)
    return found


def _in_turn(paths: list[Path | str], positions: Positions | None) -> Iterator[tuple[Path | str, str]]:
    """The files with what each log is known by; a log that was rotated away comes before the one that has its name now."""
    done: set[Path | str] = set()
    for path in paths:
        id = ""
        if positions is not None and str(path) != STDIN:
            id = first_line_id(Path(path))
            for older in positions.rotated(Path(path), id):
                done.add(older)
                yield older, first_line_id(older)
        if path not in done:
            done.add(path)
            yield path, id


def _read_file(
    path: Path | str, format: str | None, reading: Reading, positions: Positions | None = None, id: str = ""
) -> Iterator[Request]:
    ending = _ending(path)
    if ending == ".parquet":
        yield from _rows(_parquet(Path(path)), str(path), reading)
        return
    found = open_input(path)
    stream = io.BufferedReader(Unpacked(found.read_into), 1 << 18)  # type: ignore[arg-type]
    try:
        if ending == ".csv":
            yield from _rows(_csv(stream, str(path)), str(path), reading)
        elif format == "har" or (format is None and (ending == ".har" or _is_har(stream.peek(4096)))):
            yield from _har(stream, found.name, reading)
        else:
            mark = positions.mark(id, Path(path)) if positions is not None and id else None
            if mark is not None:
                stream = _from(mark, stream, found, Path(path))
                found.known_as(id)
            yield from _lines(stream, found, format, reading, mark)
    except BadData as wrong:
        reading.dead.put(found.name, 0, str(wrong))
    finally:
        found.close()


def _ending(path: Path | str) -> str:
    path = Path(path)
    return Path(path.stem).suffix.lower() if path.suffix in PACKED else path.suffix.lower()


def _from(mark: Mark, stream: Any, source: Input, path: Path) -> Any:
    """The stream behind the mark: a plain file is entered there, a packed one is read up to it."""
    if mark.offset and path.suffix not in PACKED:
        source.close()
        source.stream = io.BufferedReader(path.open("rb", buffering=0), 1 << 18)
        source.stream.seek(mark.offset)
        return source.stream
    skip_bytes(stream, mark.offset)
    return stream


# ---- lines


def _lines(
    stream: Any, source: Input, format: str | None, reading: Reading, mark: Mark | None = None
) -> Iterator[Request]:
    """One request a line. The format is settled by the first line that is not empty."""
    read = line_reader(format) if format else None
    at = mark or Mark("")
    for lines, end in _blocks(stream):
        if at.offset == 0 and lines and lines[0].startswith(BOM):
            lines[0], at.offset = lines[0][len(BOM) :], len(BOM)
        if read is None and (one := next(filter(None, map(_usable, lines)), b"")):
            read = line_reader(guess(one))
        if read is combined and end == 1:
            yield from _of_log(lines, source, reading, at)
        else:
            yield from _of_lines(lines, end, read or json_line, source, reading, at, mark is not None)


def _of_lines(
    lines: list[bytes], end: int, read: LineReader, source: Input, reading: Reading, at: Mark, growing: bool
) -> Iterator[Request]:
    """The requests of lines that `end` bytes end each. A last line without its end is left when the log is still being written."""
    for line in lines:
        if len(line) >= LINE:
            size = len(line) + end
            reading.dead.put(source.name, at.line + 1, f"a line over {LINE >> 20} MB", f"{size} bytes")
        elif not end and growing and not source.name.endswith(PACKED):
            reading.waiting += 1
            return
        elif usable := _usable(line):
            request = _read(usable, read, source, at.line + 1, reading)
            if request is not None:
                yield request
        at.offset, at.line = at.offset + len(line) + end, at.line + 1


def _usable(line: bytes) -> bytes:
    """The line without the end that Windows writes; nothing for blank lines and comments."""
    if line[-1:] == b"\r":
        line = line.rstrip(b"\r")
    return b"" if not line or line[0] == 35 or (line[0] < 33 and line.isspace()) else line  # 35 is #


def _read(line: bytes, read: LineReader, source: Input, number: int, reading: Reading) -> Request | None:
    """The request of a line; a line that is none is a dead letter."""
    try:
        row = read(line)
        request = _request_of_log(row, source, number) if read is combined else request_of(row, source, number)
    except ValueError as wrong:
        reading.dead.put(source.name, number, str(wrong), mask_text(line))
        return None
    reading.position = (source.name, number)
    return request


# The lines that most logs are made of: nothing escaped, a whole request line, referer and agent. Any other is the last group.
_PLAIN = re.compile(
    r'^(?:([^\s"\\]++) [^\s"\\]++ ([^\s"\\]++) \[([^\]\n"\\]{1,64}+)\] "([^\s"\\]++) ([^ "\\\n]++) (HTTP/[^ "\\\n]*+)" '
    r'([0-9]{3}) ([0-9]{1,18}+|-) "([^"\\\n]*+)" "([^"\\\n]*+)"|(.*+))$',
    re.MULTILINE,
)


def _of_log(lines: list[bytes], source: Input, reading: Reading, at: Mark) -> Iterator[Request]:
    """The requests of whole lines of a log in the combined format: read in one pass, and those that are not plain once more."""
    try:
        found = _PLAIN.findall(b"\n".join(lines).decode()) if lines else []
    except UnicodeDecodeError:
        yield from _of_lines(lines, 1, combined, source, reading, at, False)
        return
    name, prefix, millis_of, logged = source.name, source.prefix(), _text_millis, Request.logged
    for line, (ip, account, ts, method, url, version, status, size, referer, agent, _) in zip(
        lines, found, strict=True
    ):
        number = at.line + 1
        if ip:
            headers = LowerCase()
            if referer and referer != "-":
                headers["referer"] = referer
            if agent and agent != "-":
                headers["user-agent"] = agent
            reading.position = (name, number)
            yield logged(
                f"{prefix}:{number}", method, url, version, headers, millis_of(ts), ip if ip != "-" else None,
                account if account != "-" else None, int(status), int(size) if size != "-" else None, f"{name}:{number}",
            )  # fmt: skip
        elif usable := _usable(line):
            request = _read(usable, combined, source, number, reading)
            if request is not None:
                yield request
        at.offset, at.line = at.offset + len(line) + 1, number


def _blocks(stream: Any) -> Iterator[tuple[list[bytes], int]]:
    """The lines that came together, and how many bytes end each: a newline, nothing at the end, or the rest of a line too long."""
    rest = b""
    while block := stream.read1(BLOCK):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if lines:
            yield lines, 1
        if len(rest) >= LINE:
            more = 0
            while (piece := stream.readline(LINE)) and not piece.endswith(b"\n"):
                more += len(piece)
            yield [rest], more + len(piece)
            rest = b""
    if rest:
        yield [rest], 0


def guess(line: bytes) -> str:
    """The format of a log by one of its lines: JSON when it starts with a brace, else combined."""
    return "json" if line.lstrip()[:1] == b"{" else "combined"


def request_of(row: dict[str, Any], source: Input | None, number: int) -> Request:
    """A request of a row whose names are those of the contract."""
    id = row.get("id")
    url = row.get("url")
    body = row.get("body")
    return Request(
        id=str(id) if id not in MISSING else _made_id(source, number),
        method=str(row.get("method") or "GET"),
        url=url if isinstance(url, str) else "/" if url is None else str(url),
        version=row.get("version"),
        headers=_headers(row.get("headers")),
        body=body if isinstance(body, str | bytes | None) else msgspec.json.encode(body),
        ts=millis(row.get("ts")),
        ip=_text(row.get("ip")),
        session=_text(row.get("session")),
        account=_text(row.get("account")),
        device=_text(row.get("device")),
        status=_whole(row.get("status")),
        bytes=_whole(row.get("bytes")),
        response_headers=_headers(row.get("response_headers")),
        response_body=_text(row.get("response_body")),
        ja4=_text(row.get("ja4")),
        where=f"{source.name}:{number}" if source else str(number),
    )


def _request_of_log(row: dict[str, Any], source: Input, number: int) -> Request:
    """The request of a row of `combined`, which has texts only and few of them."""
    status, size, ip, get = row["status"], row["bytes"], row["ip"], row.get
    return Request.logged(
        f"{source.prefix()}:{number}", row["method"] or "GET", row["url"], get("version"), row["headers"], _text_millis(row["ts"]),
        ip if ip != "-" else None, get("account"), int(status) if status != "-" else None, int(size) if size != "-" else None,
        f"{source.name}:{number}",
    )  # fmt: skip


def _made_id(source: Input | None, number: int) -> str:
    return f"{source.prefix()}:{number}" if source is not None else str(number)


def _text(value: Any) -> str | None:
    if value in MISSING:
        return None
    return (
        value
        if isinstance(value, str)
        else msgspec.json.encode(value).decode()
        if isinstance(value, dict | list)
        else str(value)
    )


def _whole(value: Any) -> int | None:
    if isinstance(value, int):
        return int(value)
    try:
        return int(float(value)) if value not in MISSING else None
    except (TypeError, ValueError, OverflowError):
        return None


def _headers(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return None
    return value if isinstance(value, dict | list) and value else None


# ---- time

_MONTHS = {
    m: i + 1 for i, m in enumerate(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"])
}
_CLF = re.compile(r"(\d{1,2})/(\w{3})/(\d{4}):(\d{2}):(\d{2}):(\d{2})(?:\.\d{1,9})?(?: ?([+-])(\d{2}):?(\d{2}))?$")


def millis(value: Any) -> int | None:
    """A moment in epoch milliseconds: ISO 8601, the access log's own form, or a number (seconds when below 10^11).

    >>> millis("10/Oct/2026:13:55:36 +0200"), millis("2026-10-10T11:55:36Z"), millis(1791633336.5), millis("soon")
    (1791633336000, 1791633336000, 1791633336500, None)
    """
    if value in MISSING or isinstance(value, bool):
        return None
    if isinstance(value, datetime):
        return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000)
    if isinstance(value, int | float):
        return _number_of_millis(value)
    return _text_millis(str(value)[:40])


def _number_of_millis(value: float) -> int | None:
    if not -1e17 < value < 1e17:
        return None
    return int(value * 1000) if abs(value) < 1e11 else int(value) if abs(value) < 1e14 else int(value / 1000)


@lru_cache(maxsize=1024)
def _text_millis(text: str) -> int | None:
    found = _CLF.match(text)
    try:
        if found:
            day, month, year, hour, minute, second, sign, east, extra = found.groups()
            moment = datetime(int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=UTC)
            offset = (int(east) * 60 + int(extra)) * (-60 if sign == "-" else 60) if sign else 0
            return int(moment.timestamp() - offset) * 1000
        if text.replace(".", "", 1).isdecimal():
            return _number_of_millis(float(text))
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, KeyError, OverflowError):
        return None


# ---- HAR


def _is_har(head: bytes) -> bool:
    return bool(re.match(rb'\s*\{\s*"log"\s*:\s*\{', head))


def _har(stream: BinaryIO, name: str, reading: Reading) -> Iterator[Request]:
    raw = stream.read(HAR + 1)
    if len(raw) > HAR:
        raise BadData(f"a HAR document over {HAR >> 20} MB; export it in parts, or as NDJSON")
    try:
        entries = msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"))["log"]["entries"]
        entries = entries if isinstance(entries, list) else []
    except (msgspec.DecodeError, KeyError, TypeError, RecursionError, UnicodeDecodeError) as wrong:
        raise BadData(f"no HAR document: {wrong}") from None
    for number, entry in enumerate(entries, 1):
        try:
            row = har_row(entry)
        except (KeyError, TypeError, AttributeError) as wrong:
            reading.dead.put(name, number, f"a HAR entry without its request: {type(wrong).__name__}")
            continue
        reading.position = (name, number)
        yield request_of({"id": f"{Path(name).name}:{number}", **row}, None, number)


def har_row(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of a HAR document as a row of the contract."""
    asked, answered = entry["request"], entry.get("response") or {}
    post = asked.get("postData") or {}
    body = post.get("text")
    if body is None and post.get("params"):
        body = "&".join(f"{p.get('name', '')}={p.get('value', '')}" for p in post["params"])
    content = answered.get("content") or {}
    return {
        "method": asked.get("method"), "url": asked["url"], "version": asked.get("httpVersion"), "headers": asked.get("headers"),
        "body": body, "ts": entry.get("startedDateTime"), "status": answered.get("status"), "bytes": answered.get("bodySize"),
        "response_headers": answered.get("headers"), "ip": entry.get("_clientIPAddress"),
        "response_body": _har_text(content),
    }  # fmt: skip


def _har_text(content: dict[str, Any]) -> str | None:
    text = content.get("text")
    if text and content.get("encoding") == "base64":
        import binascii

        try:
            return text_of(binascii.a2b_base64(text))
        except binascii.Error:
            return text
    return text


# ---- tables


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(TABLE_ROWS)
    except (pa.ArrowException, OSError) as wrong:
        raise BadData(f"{path}: cannot be read as Parquet: {str(wrong)[:200]}") from None


def _csv(stream: BinaryIO, name: str) -> Iterator[Any]:
    """CSV rows by the standard reader, which takes any quoted text; a row at a time, so a broken row is one dead letter."""
    import csv

    csv.field_size_limit(LINE)
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
    rows = csv.DictReader((line.replace("\0", "") for line in text), strict=False)
    if not rows.fieldnames or "url" not in rows.fieldnames:
        raise BadData(f"{name}: a table of requests has columns url, method, id ...; found {rows.fieldnames}")
    try:
        yield from rows
    except csv.Error as wrong:
        raise BadData(f"{name}:{rows.line_num}: {wrong}") from None


def _rows(batches: Iterator[Any], name: str, reading: Reading) -> Iterator[Request]:
    number = 0
    source = _Table(name)
    try:
        for batch in batches:
            for row in (batch,) if isinstance(batch, dict) else batch.to_pylist():
                number += 1
                if not row.get("url"):
                    reading.dead.put(name, number, "a request without url")
                    continue
                reading.position = (name, number)
                yield request_of(row, source, number)  # type: ignore[arg-type]
    except BadData as wrong:
        reading.dead.put(name, number, str(wrong))


class _Table:
    def __init__(self, name: str):
        self.name = name
        self._prefix: str | None = None

    def prefix(self) -> str:
        if self._prefix is None:
            import hashlib

            with Path(self.name).open("rb") as file:
                self._prefix = hashlib.file_digest(file, "sha256").hexdigest()[:12]
        return self._prefix
