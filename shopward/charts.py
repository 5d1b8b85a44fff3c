"""Small charts as inline SVG, and the page they stand on. No JavaScript, nothing to load, readable in light and dark, printed or mailed.

Every chart is a function from numbers to `Markup`: safe to put into a template or into `page`. Colours are CSS variables with
defaults (Okabe and Ito's palette, told apart by colour-blind people), so a page may restyle them; every line also has its own dash.
Values that are NaN or infinite are gaps. Pointing at a bar or a point shows its value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup, escape

Format = Callable[[float], str]

INK = "var(--chart-ink,currentColor)"
SOFT = "var(--chart-soft,#6b7280)"
GRID = "var(--chart-grid,#8883)"
PAPER = "var(--chart-paper,#fff)"
PALETTE = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#b98600",
    "#56b4e9",
    "#555555",
    "#882255",
)  # after Okabe & Ito 2008
DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "1 2", "4 2", "10 2 2 2")
FONT = 'font-family="system-ui,-apple-system,Segoe UI,Roboto,sans-serif" font-size="12"'
MOST_POINTS = 1200  # per line; beyond, every bucket keeps its lowest and highest value
MOST_MARKS = 4000  # dots of a scatter, cells of a matrix
MOST_TIPS = 400  # marks of one chart that carry a hover text

CSS = """
:root { color-scheme: light dark; --chart-ink:#1f2430; --chart-soft:#5b6270; --chart-grid:#1f243022; --chart-paper:#ffffff;
  --chart-0:#0072b2; --chart-1:#d55e00; --chart-2:#009e73; --chart-3:#cc79a7; --chart-4:#b98600; --chart-5:#56b4e9; --chart-6:#555555;
  --chart-7:#882255; --page-back:#f5f6f8; --page-line:#dfe2e8; }
@media (prefers-color-scheme: dark) { :root { --chart-ink:#e6e8ee; --chart-soft:#a0a7b5; --chart-grid:#e6e8ee22; --chart-paper:#1b1f27;
  --chart-0:#4aa8e0; --chart-1:#f5884a; --chart-2:#2fc79a; --chart-3:#e39cc3; --chart-4:#e6b422; --chart-5:#8fd0f5; --chart-6:#b4bac6;
  --chart-7:#d98fb0; --page-back:#12151b; --page-line:#2c323d; } }
"""

_PAGE_CSS = """
body { margin:0; background:var(--page-back); color:var(--chart-ink); font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif; }
main { max-width:1200px; margin:0 auto; padding:24px 20px 64px; }
h1 { font-size:26px; margin:0 0 4px; } h2 { font-size:19px; margin:0 0 6px; } h3 { font-size:15px; margin:14px 0 4px; }
p { margin:6px 0; max-width:80ch; } .lead { color:var(--chart-soft); margin-bottom:18px; }
section { background:var(--chart-paper); border:1px solid var(--page-line); border-radius:8px; padding:16px 20px; margin:14px 0; }
figure { margin:10px 0; display:inline-block; vertical-align:top; max-width:100%; } svg { max-width:100%; height:auto; }
.tiles { display:flex; flex-wrap:wrap; gap:12px; margin:8px 0; }
.tile { border:1px solid var(--page-line); border-radius:8px; padding:10px 14px; min-width:112px; flex:1 1 112px; }
.tile b { display:block; font-size:22px; font-variant-numeric:tabular-nums; } .tile span, .tile small { color:var(--chart-soft); }
.scroll { overflow-x:auto; } table { border-collapse:collapse; font-variant-numeric:tabular-nums; font-size:14px; margin:8px 0; }
th, td { padding:4px 10px; border-bottom:1px solid var(--page-line); text-align:left; vertical-align:top; }
th { color:var(--chart-soft); font-weight:600; } .n { text-align:right; white-space:nowrap; } td svg { max-width:none; } td { max-width:60ch; }
details { margin:6px 0; max-width:90ch; } summary { cursor:pointer; }
.warn { border-left:4px solid var(--chart-1); padding-left:10px; } code { font-size:13px; }
@media print { body { background:none; } section { break-inside:avoid; border:none; padding:0; } }
"""


# ---- numbers as people read them


def number(value: float) -> str:
    """A number in at most three digits and a unit.

    >>> [number(v) for v in (0, 0.0421, 7, 999.4, 1234, -2_500_000, 3.2e9, float("nan"))]
    ['0', '0.042', '7', '999', '1.23k', '-2.5M', '3.2G', 'n/a']
    """
    if not math.isfinite(value):
        return "n/a"
    size, unit = abs(value), ""
    for step, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= step * 0.9995:
            size, unit = size / step, name
            break
    digits = 0 if size == 0 or size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.995 else 3
    text = f"{size:.{digits}f}" if size == 0 or size >= 0.001 else f"{size:.2g}"
    text = text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    return ("-" if value < 0 and float(text) else "") + text + unit


def percent(value: float) -> str:
    """A share as a percentage.

    >>> [percent(v) for v in (0, 0.5, 0.0015, 0.12345, 1, float("nan"))]
    ['0 %', '50 %', '0.15 %', '12.3 %', '100 %', 'n/a']
    """
    return f"{number(value * 100)} %" if math.isfinite(value) else "n/a"


def money(currency: str) -> Format:
    """The format of amounts in one currency.

    >>> money("USD")(-15300.0)
    'USD -15.3k'
    """
    return lambda value: f"{currency} {number(value)}" if math.isfinite(value) else "n/a"


# ---- scales and ticks


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] of the data onto [start, end] of the picture."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value):
        return self.start + (np.asarray(value, np.float64) - self.low) / (self.high - self.low) * (
            self.end - self.start
        )


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values that cover [low, high], about `wanted` of them: steps of 1, 2, 2.5 or 5 times a power of ten.

    >>> ticks(0, 87)
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    >>> ticks(0.01, 0.043)
    [0.01, 0.02, 0.03, 0.04, 0.05]
    """
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.95)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


_DAY = 86_400_000.0
_TIME_STEPS = (60e3, 300e3, 900e3, 3600e3, 3 * 3600e3, 6 * 3600e3, 12 * 3600e3, _DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY)


def _time_ticks(low: float, high: float, wanted: int = 7, least: float = 0.0) -> list[tuple[float, str]]:
    """Round moments between two and how they are called; `least` is the smallest step, a day where the values are days.

    >>> [words for _, words in _time_ticks(0.0, 2 * 86_400_000.0, least=86_400_000.0)], _time_ticks(0.0, 0.0)
    (['1 Jan', '2 Jan', '3 Jan'], [(0.0, '00:00')])
    """
    step = next((s for s in _TIME_STEPS if s >= least and (high - low) / s <= wanted), None)
    if step is None:
        return _month_ticks(low, high, wanted)
    base = low - low % _DAY if step >= _DAY else 0.0
    found = np.arange(base + math.ceil((low - base) / step - 1e-9) * step, high + 1, step)
    shape = "%b" if step >= _DAY else "%b %H:%M" if high - low > _DAY else ""
    moments = [(float(t), _moment(t)) for t in found]
    return [(t, f"{m.day} {m.strftime(shape)}" if shape else m.strftime("%H:%M")) for t, m in moments]


def _month_ticks(low: float, high: float, wanted: int) -> list[tuple[float, str]]:
    start, end = _moment(low), _moment(high)
    months = range(start.year * 12 + start.month - 1, end.year * 12 + end.month)
    stride = max(1, math.ceil(len(months) / wanted))
    found = [datetime(m // 12, m % 12 + 1, 1, tzinfo=UTC) for m in months[::stride]]
    return [(d.timestamp() * 1000, d.strftime("%b %Y")) for d in found if low <= d.timestamp() * 1000 <= high]


def _moment(ms: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=float(ms))


def _as_numbers(xs: Any) -> tuple[np.ndarray, bool]:
    """Positions of x values, and whether they are moments (dates, datetimes, datetime64: milliseconds)."""
    first = next(iter(xs), None)
    if isinstance(first, date | np.datetime64):
        naive = [x.astimezone(UTC).replace(tzinfo=None) if isinstance(x, datetime) and x.tzinfo else x for x in xs]
        return np.asarray(naive, "datetime64[ms]").astype(np.int64).astype(np.float64), True
    return np.asarray(xs, np.float64), False


def _reach(arrays: Iterable[np.ndarray], zero: bool = False) -> tuple[float, float] | None:
    """Lowest and highest finite value; None when there is none."""
    flat = [a[np.isfinite(a)] for a in arrays]
    joined = np.concatenate(flat) if flat else np.empty(0)
    if not len(joined):
        return None
    low, high = float(joined.min()), float(joined.max())
    return (min(low, 0.0), max(high, 0.0)) if zero else (low, high)


# ---- pieces of a picture


def colour(i: int) -> str:
    """The i-th colour of the palette, as CSS."""
    i %= len(PALETTE)
    return f"var(--chart-{i},{PALETTE[i]})"


def _text(x: float, y: float, words: str, anchor: str = "start", fill: str = SOFT, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" {more}>{escape(words)}</text>'


def _tip(words: str) -> str:
    return f"<title>{escape(words)}</title>"


def _rule(x1: float, y1: float, x2: float, y2: float, stroke: str = GRID, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" {more}/>'


def _legend(names: Sequence[str], width: float, dashed: bool) -> tuple[list[str], float]:
    """The names of several series above the plot; the second value is the height they take."""
    if len(names) < 2:
        return [], 0.0
    parts, x, y = [], 12.0, 40.0
    for i, name in enumerate(names):
        wide = 34 + 6.6 * len(name)
        if x + wide > width and x > 12:
            x, y = 12.0, y + 18
        if dashed:
            parts.append(
                _rule(
                    x,
                    y - 4,
                    x + 20,
                    y - 4,
                    colour(i),
                    f'stroke-width="2.5" stroke-dasharray="{DASHES[i % len(DASHES)]}"',
                )
            )
        else:
            parts.append(f'<rect x="{x:.1f}" y="{y - 10:.1f}" width="14" height="11" fill="{colour(i)}"/>')
        parts.append(_text(x + 25, y, name, fill=INK))
        x += wide + 8
    return parts, y - 16


def _svg(title: str, desc: str, width: float, height: float, parts: Iterable[str]) -> Markup:
    head = _text(12, 18, title, fill=INK, more='font-weight="600" font-size="13"')
    return Markup(  # every piece was escaped where it was made
        f'<figure><svg role="img" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" {FONT}'
        f' xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title><desc>{escape(desc)}</desc>{head}{"".join(parts)}</svg></figure>'
    )


def _empty(title: str, width: float, height: float) -> Markup:
    return _svg(
        title, "There is nothing to draw.", width, height, [_text(width / 2, height / 2, "nothing to draw", "middle")]
    )


def _y_axis(y: Scale, at: Sequence[float], left: float, right: float, form: Format) -> list[str]:
    parts = []
    for value, place in zip(at, y(at), strict=True):
        parts += [_rule(left, place, right, place), _text(left - 6, place + 4, form(value), "end")]
    return parts


EDGE = 14.0  # pixels beside the axis that a label may take


def _x_axis(x: Scale, at: Sequence[tuple[float, str]], bottom: float) -> list[str]:
    parts = [_rule(x.start, bottom, x.end, bottom, SOFT)]
    room = -1e9
    for value, words in at:
        place, wide = float(x(value)), 6.6 * len(words)
        if place - wide / 2 > room:
            over = place + wide / 2 > x.end + EDGE  # then it ends where the picture ends
            spot = (
                _text(x.end + EDGE, bottom + 17, words, "end") if over else _text(place, bottom + 17, words, "middle")
            )
            parts += [_rule(place, bottom, place, bottom + 4, SOFT), spot]
            room = place + wide / 2 + 4
    return parts


def _labels(x_label: str, y_label: str, left: float, right: float, top: float, bottom: float) -> list[str]:
    parts = []
    if x_label:
        parts.append(_text((left + right) / 2, bottom + 34, x_label, "middle"))
    if y_label:
        turn = f'transform="rotate(-90 13 {(top + bottom) / 2:.1f})"'
        parts.append(_text(13, (top + bottom) / 2, y_label, "middle", more=turn))
    return parts


def _margin(at: Sequence[float], form: Format, label: str) -> float:
    return 18 + 6.8 * max(len(form(v)) for v in at) + (16 if label else 0)


def _path(px: np.ndarray, py: np.ndarray) -> str:
    """An SVG path through the points; NaN lifts the pen."""
    words, down = [], False
    for x, y in zip(px, py, strict=True):
        fine = math.isfinite(x) and math.isfinite(y)
        if fine:
            words.append(f"{'L' if down else 'M'}{x:.1f} {y:.1f}")
        down = fine
    return "".join(words)


def _thin(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MOST_POINTS points that look the same: of each bucket the lowest and the highest."""
    if len(xs) <= MOST_POINTS:
        return xs, ys
    keep = [0, len(xs) - 1]
    for part in np.array_split(np.arange(len(xs)), MOST_POINTS // 2):
        fine = part[np.isfinite(ys[part])]
        keep += [int(fine[ys[fine].argmin()]), int(fine[ys[fine].argmax()])] if len(fine) else [int(part[0])]
    order = np.unique(keep)
    return xs[order], ys[order]


def _clean(values: Any) -> np.ndarray:
    array = np.asarray(values, np.float64)
    return np.where(np.isfinite(array), array, np.nan)


# ---- the charts


def line(
    title: str,
    x: Sequence[Any] | np.ndarray,
    series: Mapping[str, Any],
    *,
    band: tuple[Any, Any] | None = None,
    y_format: Format = number,
    x_format: Format = number,
    x_label: str = "",
    y_label: str = "",
    zero: bool = True,
    marks: Sequence[tuple[Any, str]] = (),
    width: float = 640,
    height: float = 250,
) -> Markup:
    """Values over time (dates, datetimes, datetime64) or over numbers, one line a series.

    x       n positions, ascending
    series  name -> n values
    band    n lower and n upper values, shaded behind the first series (a confidence interval)
    marks   positions on x that get a vertical line and a word (a release, an attack)

    >>> "<path" in line("Orders a day", [1, 2, 3], {"orders": [5, 8, 6]})
    True
    """
    at, timed = _as_numbers(x)
    lines = {name: _clean(v) for name, v in series.items()}
    edges = [_clean(b) for b in band] if band else []
    reach = _reach([*lines.values(), *edges], zero)
    if reach is None or not len(at):
        return _empty(title, width, height)
    at_y, (low, high) = ticks(*reach), (float(at.min()), float(at.max()))
    legend, lift = _legend(list(lines), width, dashed=True)
    left, right, top, bottom = _margin(at_y, y_format, y_label), width - 16, 34 + lift, height - (44 if x_label else 28)
    xs = Scale(low, high if high > low else low + 1, left, right)
    ys = Scale(at_y[0], at_y[-1], bottom, top)
    days = timed and not np.any(at % _DAY)
    at_x = (
        _time_ticks(low, high, least=_DAY if days else 0.0)
        if timed
        else [(t, x_format(t)) for t in ticks(low, high, 7) if low <= t <= high]
    )
    parts = [*legend, *_y_axis(ys, at_y, left, right, y_format), *_x_axis(xs, at_x, bottom)]
    parts += _labels(x_label, y_label, left, right, top, bottom)
    parts += _band(at, edges, xs, ys)
    for place, words in marks:
        spot = float(xs(_as_numbers([place])[0][0]))
        parts += [_rule(spot, top, spot, bottom, SOFT, 'stroke-dasharray="3 3"'), _text(spot + 3, top + 10, words)]
    for i, (name, values) in enumerate(lines.items()):
        parts += _one_line(i, name, *_thin(at, values), xs, ys, y_format, timed)
    return _svg(title, _told(lines, y_format), width, height, parts)


def _band(at: np.ndarray, edges: list[np.ndarray], xs: Scale, ys: Scale) -> list[str]:
    if not edges:
        return []
    fine = np.isfinite(edges[0]) & np.isfinite(edges[1])
    around = np.concatenate([at[fine], at[fine][::-1]]), np.concatenate([edges[0][fine], edges[1][fine][::-1]])
    return (
        [f'<path d="{_path(xs(around[0]), ys(around[1]))}Z" fill="{colour(0)}" opacity="0.18" stroke="none"/>']
        if fine.any()
        else []
    )


def _one_line(
    i: int, name: str, x: np.ndarray, y: np.ndarray, xs: Scale, ys: Scale, form: Format, timed: bool
) -> list[str]:
    px, py = xs(x), ys(y)
    dash = DASHES[i % len(DASHES)]
    style = f'fill="none" stroke="{colour(i)}" stroke-width="2" stroke-linejoin="round" stroke-dasharray="{dash}"'
    parts = [f'<path d="{_path(px, py)}" {style}/>']
    if len(x) <= MOST_TIPS:
        size = 2.5 if len(x) <= 40 else 6
        fill = colour(i) if len(x) <= 40 else "transparent"
        for cx, cy, vx, vy in zip(px, py, x, y, strict=True):
            if math.isfinite(vy):
                when = _moment(vx).strftime("%d %b %Y") if timed else number(vx)
                words = f"{name}, {when}: {form(vy)}"
                parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{size}" fill="{fill}">{_tip(words)}</circle>')
    return parts


def _told(series: Mapping[str, np.ndarray], form: Format) -> str:
    """What a screen reader says: each series' range and last value."""
    words = []
    for name, values in series.items():
        fine = values[np.isfinite(values)]
        if len(fine):
            words.append(
                f"{name}: from {form(float(fine.min()))} to {form(float(fine.max()))}, last {form(float(fine[-1]))}"
            )
    return "; ".join(words)


def bars(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Any],
    *,
    stacked: bool = False,
    horizontal: bool = False,
    format: Format = number,
    x_label: str = "",
    y_label: str = "",
    width: float = 640,
    height: float | None = None,
) -> Markup:
    """One group of bars a label, one colour a series; `horizontal` for many or long labels.

    >>> "<rect" in bars("Decisions", ["deny", "review"], {"events": [3, 9]}, horizontal=True)
    True
    """
    values = np.array([_clean(v) for v in series.values()], np.float64).reshape(len(series), -1)
    height = height or (
        max(120.0, 64.0 + len(labels) * (22 if stacked or len(series) == 1 else 12 * len(series) + 10))
        if horizontal
        else 250.0
    )
    if not values.size or not np.isfinite(values).any():
        return _empty(title, width, height)
    ends = _stack_ends(values) if stacked else values
    low, high = min(0.0, float(np.nanmin(ends))), max(0.0, float(np.nanmax(ends)))
    draw = _horizontal if horizontal else _vertical
    legend, lift = _legend(list(series), width, dashed=False)
    parts = draw(
        labels,
        list(series),
        values,
        stacked,
        ticks(low, high),
        format,
        34 + lift,
        width,
        height + lift,
        x_label,
        y_label,
    )
    told = _told(dict(zip(series, values, strict=True)), format)
    return _svg(title, f"{told} over {', '.join(map(str, labels[:40]))}", width, height + lift, [*legend, *parts])


def _stack_ends(values: np.ndarray) -> np.ndarray:
    """The highest and lowest end of each stack; positive and negative parts grow away from zero."""
    fine = np.nan_to_num(values)
    return np.concatenate([np.clip(fine, 0, None).sum(0), np.clip(fine, None, 0).sum(0)])


def _spans(values: np.ndarray, stacked: bool) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of every bar, [series, label]."""
    if not stacked:
        return np.zeros_like(values), values
    fine = np.nan_to_num(values)
    up, down = np.clip(fine, 0, None), np.clip(fine, None, 0)
    start = np.where(fine >= 0, up.cumsum(0) - up, down.cumsum(0) - down)
    return start, start + fine


def _vertical(labels, names, values, stacked, at, form, top, width, height, x_label, y_label) -> list[str]:
    left, right = _margin(at, form, y_label), width - 12
    bottom = height - (46 if x_label else 30)
    y = Scale(at[0], at[-1], bottom, top)
    slot = (right - left) / len(labels)
    parts = [*_y_axis(y, at, left, right, form), *_labels(x_label, y_label, left, right, top, bottom)]
    across = Scale(0, len(labels), left, right)
    parts += _x_axis(across, [(i + 0.5, _short(str(name), 22)) for i, name in enumerate(labels)], bottom)
    for s, i, start, end, lane, thick in _each_bar(values, stacked, slot):
        a, b = sorted((float(y(start)), float(y(end))))
        words = f"{labels[i]}, {names[s]}: {form(values[s, i])}"
        parts.append(_bar(left + i * slot + lane, a, thick, b - a, s, words, values.size))
    return parts


def _horizontal(labels, names, values, stacked, at, form, top, width, height, x_label, y_label) -> list[str]:
    left = min(width * 0.45, 18 + 6.9 * max((len(_short(str(n), 40)) for n in labels), default=1))
    right, bottom = width - 40, height - (44 if x_label else 28)
    x = Scale(at[0], at[-1], left, right)
    slot = (bottom - top) / len(labels)
    parts = [*_labels(x_label, y_label, left, right, top, bottom), *_x_axis(x, [(t, form(t)) for t in at], bottom)]
    parts += [_rule(float(x(t)), top, float(x(t)), bottom) for t in at]
    parts += [_text(left - 6, top + (i + 0.5) * slot + 4, _short(str(n), 40), "end", INK) for i, n in enumerate(labels)]
    for s, i, start, end, lane, thick in _each_bar(values, stacked, slot):
        a, b = sorted((float(x(start)), float(x(end))))
        words = f"{labels[i]}, {names[s]}: {form(values[s, i])}"
        parts.append(_bar(a, top + i * slot + lane, b - a, thick, s, words, values.size, sideways=True))
    return parts


def _each_bar(values: np.ndarray, stacked: bool, slot: float):
    """(series, label, start, end, offset in the slot, thickness) of every bar that has a value."""
    start, end = _spans(values, stacked)
    gap = min(slot * 0.2, 10)
    thick = (slot - gap) / (1 if stacked else len(values))
    for s, i in zip(*np.nonzero(np.isfinite(values)), strict=True):
        yield s, i, start[s, i], end[s, i], gap / 2 + (0 if stacked else s * thick), thick


def _bar(x: float, y: float, wide: float, high: float, series: int, words: str, of: int, sideways: bool = False) -> str:
    if sideways:
        wide = max(wide, 0.5)
    else:
        high = max(high, 0.5)
    tip = _tip(words) if of <= MOST_TIPS else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" fill="{colour(series)}">{tip}</rect>'


def _short(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


def histogram(
    title: str,
    series: Mapping[str, Any],
    *,
    bins: int | Sequence[float] = 30,
    share: bool = False,
    x_format: Format = number,
    x_label: str = "",
    y_label: str = "",
    width: float = 640,
    height: float = 250,
) -> Markup:
    """How values spread: one outline a series over common bins; `share` makes each series sum to 1 (compare a rare one with a common one).

    >>> "<path" in histogram("Scores", {"fraud": [0.7, 0.9], "honest": [0.1, 0.2, 0.1]}, bins=5, share=True)
    True
    """
    arrays = {name: a[np.isfinite(a)] for name, v in series.items() if len(a := np.asarray(v, np.float64).ravel())}
    reach = _reach(arrays.values())
    if reach is None:
        return _empty(title, width, height)
    edges = np.histogram_bin_edges(np.asarray(reach), bins if isinstance(bins, int) else np.asarray(bins, np.float64))
    counts = {name: np.histogram(a, edges)[0].astype(float) for name, a in arrays.items()}
    if share:
        counts = {name: c / max(c.sum(), 1.0) for name, c in counts.items()}
    form = percent if share else number
    at_y = ticks(0.0, max(float(c.max()) for c in counts.values()))
    legend, lift = _legend(list(counts), width, dashed=False)
    left, right, top, bottom = _margin(at_y, form, y_label), width - 16, 34 + lift, height - (44 if x_label else 28)
    x, y = Scale(float(edges[0]), float(edges[-1]), left, right), Scale(at_y[0], at_y[-1], bottom, top)
    at_x = [(t, x_format(t)) for t in ticks(x.low, x.high, 7) if x.low <= t <= x.high]
    parts = [*legend, *_y_axis(y, at_y, left, right, form), *_x_axis(x, at_x, bottom)]
    parts += _labels(x_label, y_label, left, right, top, bottom)
    for i, c in enumerate(counts.values()):
        steps = _path(x(np.repeat(edges, 2)), y(np.concatenate([[0], np.repeat(c, 2), [0]])))
        parts.append(
            f'<path d="{steps}Z" fill="{colour(i)}" fill-opacity="0.3" stroke="{colour(i)}" stroke-width="1.5"/>'
        )
    return _svg(title, _told({k: np.asarray(v) for k, v in counts.items()}, form), width, height, parts)


def curve(
    title: str,
    series: Mapping[str, tuple[Any, Any]],
    *,
    x_label: str = "",
    y_label: str = "",
    x_format: Format = percent,
    y_format: Format = percent,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
    marks: Sequence[tuple[float, float, str]] = (),
    dots: bool = False,
    width: float = 420,
    height: float = 340,
) -> Markup:
    """y against x, each series with its own xs: ROC, precision-recall, calibration, a trade-off; `dots` makes it a scatter.

    marks     (x, y, words) points to name, such as the current policy
    diagonal  a dotted line from corner to corner (chance, or perfect calibration)

    >>> "<path" in curve("ROC", {"model": ([0, 0.1, 1], [0, 0.8, 1])}, diagonal=True)
    True
    """
    points = {name: (_clean(xs), _clean(ys)) for name, (xs, ys) in series.items()}
    marked = np.array([(m[0], m[1]) for m in marks], np.float64).reshape(-1, 2)
    reach_x = x_range or _reach([p[0] for p in points.values()] + [marked[:, 0]])
    reach_y = y_range or _reach([p[1] for p in points.values()] + [marked[:, 1]])
    if reach_x is None or reach_y is None:
        return _empty(title, width, height)
    at_x, at_y = ticks(*reach_x, wanted=4), ticks(*reach_y)
    legend, lift = _legend(list(points), width, dashed=not dots)
    left, right, top, bottom = _margin(at_y, y_format, y_label), width - 24, 34 + lift, height - (44 if x_label else 28)
    x, y = Scale(at_x[0], at_x[-1], left, right), Scale(at_y[0], at_y[-1], bottom, top)
    parts = [*legend, *_y_axis(y, at_y, left, right, y_format), *_x_axis(x, [(t, x_format(t)) for t in at_x], bottom)]
    parts += _labels(x_label, y_label, left, right, top, bottom)
    if diagonal:
        parts.append(_rule(left, bottom, right, top, SOFT, 'stroke-dasharray="3 4"'))
    draw = _dots if dots else _curve_line
    for i, (name, (xs, ys)) in enumerate(points.items()):
        parts += draw(i, name, xs, ys, x, y, x_format, y_format)
    for px, py, words in marks:
        parts += _mark(float(x(px)), float(y(py)), words, right)
    return _svg(title, _told({k: v[1] for k, v in points.items()}, y_format), width, height, parts)


scatter = partial(curve, dots=True)


def _curve_line(i, name, xs, ys, x: Scale, y: Scale, x_format: Format, y_format: Format) -> list[str]:
    if len(xs) > MOST_POINTS:
        keep = np.unique(np.linspace(0, len(xs) - 1, MOST_POINTS).astype(int))
        xs, ys = xs[keep], ys[keep]
    dash = DASHES[i % len(DASHES)]
    return [
        f'<path d="{_path(x(xs), y(ys))}" fill="none" stroke="{colour(i)}" stroke-width="2" stroke-dasharray="{dash}"/>'
    ]


def _dots(i, name, xs, ys, x: Scale, y: Scale, x_format: Format, y_format: Format) -> list[str]:
    fine = np.flatnonzero(np.isfinite(xs) & np.isfinite(ys))
    if len(fine) > MOST_MARKS:
        fine = fine[np.unique(np.linspace(0, len(fine) - 1, MOST_MARKS).astype(int))]
    parts = []
    for j in fine:
        tip = _tip(f"{name}: {x_format(xs[j])}, {y_format(ys[j])}") if len(fine) <= MOST_TIPS else ""
        parts.append(
            f'<circle cx="{x(xs[j]):.1f}" cy="{y(ys[j]):.1f}" r="3" fill="{colour(i)}" fill-opacity="0.65">{tip}</circle>'
        )
    return parts


def _mark(px: float, py: float, words: str, right: float) -> list[str]:
    beyond = px + 10 + 6.6 * len(words) > right
    dot = f'<circle cx="{px:.1f}" cy="{py:.1f}" r="5" fill="{PAPER}" stroke="{INK}" stroke-width="2">{_tip(words)}</circle>'
    return [dot, _text(px - 9 if beyond else px + 9, py + 4, words, "end" if beyond else "start", INK)]


def matrix(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Any,
    *,
    format: Format = number,
    low: float | None = None,
    high: float | None = None,
    diverging: bool = False,
    width: float = 640,
) -> Markup:
    """A heat map with its numbers: [rows, columns] values; `diverging` colours below and above zero differently.

    >>> matrix("Overlap", ["a", "b"], ["a", "b"], [[1, 0.2], [0.5, 1]], format=percent).count("<rect")
    4
    """
    table = _clean(values).reshape(len(rows), len(columns))
    reach = _reach([table])
    if reach is None or table.size > MOST_MARKS:
        return _empty(title, width, 80)
    left = min(width * 0.4, 18 + 6.9 * max(len(_short(r, 40)) for r in rows))
    cell = min(90.0, (width - left - 12) / len(columns))
    tall = 24.0
    turned = any(6.9 * len(c) > cell - 4 for c in columns)
    top = 34 + (min(130.0, 5.0 * max(len(_short(c, 26)) for c in columns) + 10) if turned else 18)
    least, most = (reach[0] if low is None else low), (reach[1] if high is None else high)
    scale = max(abs(least), abs(most)) if diverging else most - least
    parts = [_text(left - 6, top + (i + 0.5) * tall + 4, _short(r, 40), "end", INK) for i, r in enumerate(rows)]
    for j, name in enumerate(columns):
        parts.append(_column_name(left + (j + 0.5) * cell, top - 6, _short(name, 26), turned))
    for i, j in np.ndindex(table.shape):
        value = float(table[i, j])
        part = (
            0.0
            if not math.isfinite(value) or not scale
            else abs(value) / scale
            if diverging
            else (value - least) / scale
        )
        fill = colour(1 if diverging and value < 0 else 0)
        words = f"{rows[i]}, {columns[j]}: {format(value)}"
        x, y = left + j * cell, top + i * tall
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" height="{tall - 1:.1f}" fill="{fill}"'
            f' fill-opacity="{0.05 + 0.75 * min(max(part, 0.0), 1.0):.2f}">{_tip(words)}</rect>'
        )
        if cell > 34 and math.isfinite(value):
            parts.append(
                _text(
                    x + cell / 2, y + tall / 2 + 4, format(value), "middle", INK, 'font-size="11" pointer-events="none"'
                )
            )
    return _svg(title, f"{len(rows)} rows, {len(columns)} columns", width, top + tall * len(rows) + 10, parts)


def _column_name(x: float, y: float, words: str, turned: bool) -> str:
    if not turned:
        return _text(x, y, words, "middle", INK)
    return _text(x, y, words, "start", INK, f'transform="rotate(-40 {x:.1f} {y:.1f})"')


def sparkline(
    values: Any, *, title: str = "", format: Format = number, width: float = 120, height: float = 24
) -> Markup:
    """A line without axes, as high as a line of text, for a table cell.

    >>> sparkline([1, 3, 2]).startswith("<svg")
    True
    """
    ys = _clean(values)
    reach = _reach([ys], zero=True)
    if reach is None:
        return Markup("")
    at, ys = _thin(np.arange(len(ys), dtype=np.float64), ys)
    x = Scale(0, max(float(at[-1]), 1.0), 2, width - 4)
    y = Scale(reach[0], reach[1] if reach[1] > reach[0] else reach[0] + 1, height - 3, 3)
    last = np.flatnonzero(np.isfinite(ys))[-1]
    dot = f'<circle cx="{x(at[last]):.1f}" cy="{y(ys[last]):.1f}" r="2" fill="{colour(0)}"/>'
    told = escape(f"{title} {_told({'': ys}, format)}".strip(" :"))
    return Markup(
        f'<svg role="img" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"><title>{told}</title>'
        f'<path d="{_path(x(at), y(ys))}" fill="none" stroke="{colour(0)}" stroke-width="1.5"/>{dot}</svg>'
    )


# ---- the page


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page: text (escaped, one paragraph each) and Markup (charts, tables, tiles) in reading order."""

    title: str
    blocks: tuple[str, ...]

    def __init__(self, title: str, *blocks: str):
        object.__setattr__(self, "title", title)
        object.__setattr__(self, "blocks", blocks)


def tiles(figures: Iterable[tuple[str, str, str]]) -> Markup:
    """The few numbers that matter: (what, value, note) each.

    >>> print(tiles([("Insult rate", "0.15 %", "of honest events")]))
    <div class="tiles"><div class="tile"><span>Insult rate</span><b>0.15 %</b><small>of honest events</small></div></div>
    """
    one = '<div class="tile"><span>{}</span><b>{}</b><small>{}</small></div>'
    return (
        Markup('<div class="tiles">')
        + Markup("").join(Markup(one).format(*figure) for figure in figures)
        + Markup("</div>")
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """A table; cells that are numbers (or say so by their `Format`ted text: digits first) stand right, Markup cells stay as they are.

    >>> print(table(["rule", "fired"], [["ring", 3]]))
    <div class="scroll"><table><thead><tr><th>rule</th><th>fired</th></tr></thead><tbody><tr><td>ring</td><td class="n">3</td></tr></tbody></table></div>
    """
    head = Markup("").join(Markup("<th>{}</th>").format(h) for h in headings)
    body = Markup("").join(Markup("<tr>{}</tr>").format(Markup("").join(map(_cell, row))) for row in rows)
    return Markup('<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        head, body
    )


def _cell(value: Any) -> Markup:
    if isinstance(value, Markup):
        return Markup("<td>{}</td>").format(value)
    words = (
        ""
        if value is None
        else f"{value:,}"
        if isinstance(value, int)
        else number(value)
        if isinstance(value, float)
        else str(value)
    )
    numeric = (
        words[:1].isdigit()
        or words[:2].lstrip("-")[:1].isdigit()
        or words == "n/a"
        or words[:4].rstrip().isupper()
        and words[4:5].lstrip("-").isdigit()
    )
    return Markup('<td class="n">{}</td>' if numeric else "<td>{}</td>").format(words)


def folded(title: str, words: str) -> Markup:
    """Text that opens when its title is clicked.

    >>> print(folded("3 rules", "a, b, c"))
    <details><summary>3 rules</summary>a, b, c</details>
    """
    return Markup("<details><summary>{}</summary>{}</details>").format(title, words)


def warning(words: str) -> Markup:
    """A paragraph that must not be overlooked.

    >>> print(warning("No labels & no truth"))
    <p class="warn">No labels &amp; no truth</p>
    """
    return Markup('<p class="warn">{}</p>').format(words)


def page(title: str, sections: Iterable[Section], *, lead: str = "", language: str = "en") -> str:
    """A whole HTML file that needs nothing else: no script, no font, no picture from elsewhere.

    >>> html = page("Backtest", [Section("Result", "Two rules & one day.")])
    >>> "<p>Two rules &amp; one day.</p>" in html and "<script" not in html
    True
    """
    body = Markup("").join(_section(s) for s in sections)
    lead_html = Markup('<p class="lead">{}</p>').format(lead) if lead else ""
    shell = Markup(
        '<!doctype html>\n<html lang="{}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        "<title>{}</title><style>{}</style></head><body><main><h1>{}</h1>{}{}</main></body></html>\n"
    )
    return str(shell.format(language, title, Markup(CSS + _PAGE_CSS), title, lead_html, body))


def _section(section: Section) -> Markup:
    blocks = Markup("").join(b if isinstance(b, Markup) else Markup("<p>{}</p>").format(b) for b in section.blocks)
    return Markup("<section><h2>{}</h2>{}</section>").format(section.title, blocks)
