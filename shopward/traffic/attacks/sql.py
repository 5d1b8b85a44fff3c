"""Is this value a piece of SQL that leaves the place it was put in? Decided by grammar, not by words.

A value is read as it stands, and as what follows an opening quote, since that is where an injection starts. The tokens become one
letter each, and SHAPES are patterns over these letters: `s&1=1` is a closed string, a logical operator and a comparison. Words in
prose are letters too, but they stand beside each other as no SQL does.

letters: 1 number, s string, S string without end, v variable, t true/false/null, w word, f function name before "(", Z function that
waits, reads files or reports errors, & and/or/xor, N not, = comparison (g for < and >), + arithmetic, | concatenation, * star, ( ) , ; . themselves,
U union, E select, F from, W where, H having, O order/group by, L limit, C case/when, D statement of two words (drop table, insert
into), X statement that executes, i into, a all/distinct, d the delay of waitfor, c comment to the end, k the same with words in it,
? anything else
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from shopward.traffic.attacks.words import words

_TOKEN = re.compile(
    r"""(?P<space>[\s\x00\xa0]++|/\*(?!!)[^*]*+(?:\*(?!/)[^*]*+)*+\*/|/\*!\d{0,6}|\*/)
    |(?P<c>--(?:[\s-].*+|$)|--+(?=\w|'|")|\#.*+|/\*.*+|;\x00|--\+.*+)
    |(?P<s>[nxbe]?'(?:[^'\\]++|\\.|'')*+'|"(?:[^"\\]++|\\.|"")*+"|\$\$[^$]*+\$\$|q'[\[({<!][^'\])}>]{0,500}[\])}>!]')
    |(?P<S>'[\s\S]*+|"[\s\S]*+)
    |(?P<id>`[^`\s]{0,64}`|\[[\w ]{1,64}\])
    |(?P<n>0x[0-9a-f]++|0b[01]++|\d++(?:\.\d*+)?(?:e[+-]?\d++)?(?![a-z_])|\.\d++)
    |(?P<v>@@?[\w.$]++|:[a-z_]\w*+|\$\d++)
    |(?P<w>[a-z_\u0080-\uffff][\w$\u0080-\uffff]*+)
    |(?P<and>&&|\|\|)
    |(?P<cmp><=>|<>|!=|!<|!>|<=|>=|==|=|<|>|\^=|~\*?)
    |(?P<op>:=|<<|>>|::|[-+/%^|&!])
    |(?P<p>[(),;.*])
    |(?P<other>\d++[a-z_]\w*+|.)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)

_WORDS: dict[str, str] = {}
for _letter, _names in {
    "&": "and or xor", "N": "not", "=": "like rlike regexp ilike in is between glob similar sounds match against isnull notnull",
    "U": "union intersect except minus", "E": "select", "F": "from", "W": "where", "H": "having", "L": "limit offset fetch",
    "C": "case when then else end", "a": "all distinct distinctrow top", "t": "true false null unknown", "i": "into",
    "?": "the our your my these those their its",
    "X": "exec execute declare waitfor shutdown handler procedure prepare", "+": "div mod collate", "d": "delay",
}.items():  # fmt: skip
    for _name in _names.split():
        _WORDS[_name] = _letter

FUNCTIONS = words("sql_functions")
DANGEROUS = words("sql_dangerous_functions")
PAIRS = {
    "drop": "table database view index user schema procedure function trigger column role login if", "insert": "into ignore overwrite",
    "delete": "from", "create": "table database view index user schema procedure function trigger role login or temporary alias",
    "alter": "table database user view procedure session system login role", "truncate": "table", "order": "by", "group": "by",
    "replace": "into", "grant": "all select insert update execute", "load": "data", "rename": "table", "backup": "database log",
    "restore": "database", "merge": "into", "start": "transaction slave", "lock": "tables", "reset": "master slave",
    "attach": "database", "copy": "from to", "call": "", "natural": "join", "inner": "join", "outer": "join", "cross": "join",
    "left": "join", "right": "join", "begin": "declare try", "set": "",
}  # fmt: skip
_PAIRS = {first: frozenset(seconds.split()) for first, seconds in PAIRS.items()}


class Shape(NamedTuple):
    """A way in which SQL leaves its place: how the letters look, how sure that makes us, and one example."""

    name: str
    pattern: re.Pattern[str]
    score: float
    example: str
    strict: bool = False  # < and > do not count as comparisons: prose compares too


_ITEM = r"(?:[N+|]{0,3}\({0,8}[N+|]{0,3}(?:[fwZ](?:\.w){0,3}\(|[1sSvtw*E]))"
_LIT = r"(?:[N+]{0,3}\({0,8}[N+]{0,2}[1st])"
_STOP = r"(?:$|[c&;OHLU)]|\|)"
# After the quote that closes the value's place (the leading s), or after a bare operand.
QUOTED = tuple(
    Shape(name, re.compile(pattern), score, example)
    for name, pattern, score, example in (
        ("tautology", rf"^s\){{0,9}}[&|+]{{1,2}}{_ITEM}.{{0,24}}?=", 0.97, "' or 'a'='a"),
        ("closed and commented out", r"^s\){0,9};?c$", 0.8, "admin'--"),
        ("logic, then comment", rf"^s\){{0,9}}[&|]{{1,2}}{_ITEM}.{{0,60}}?c", 0.9, "' or 1#"),
        ("logic between strings", r"^s\){0,9}[&|]{1,2}N?\(?[sS](?:$|[c)|=])", 0.7, "' or '"),
        ("logic, then truth", r"^s\){0,9}[&|]{1,2}N?\(?t(?:$|[c)&;])", 0.8, "' or true--"),
        ("logic, then a call", r"^s\){0,9}[&|+]{1,3}N?\({0,9}[fwZ](?:\.w){0,3}\(", 0.85, "' and sleep(5)"),
        ("subquery", r"^s\){0,9}[&|+=,*]{1,2}.{0,12}?\(a?E", 0.95, "'||(select 1)||'"),
        ("comparison in place", rf"^s\){{0,9}}N?=N?(?:S$|\(?(?:{_LIT}|\(?E)(?:$|[c&|;=)]))", 0.7, "'='"),
        ("concatenation", r"^s\|{1,2}.{1,24}?\|{1,2}[sS]", 0.7, "'||'a'||'"),
        ("arithmetic between strings", r"^s[+*]{1,2}[1(].{0,12}?[+*=|]", 0.6, "'*1*'"),
        ("another statement", r"^s\){0,9};[?]{0,2}(?:D|X|E[1*(sv]|E.{1,24}?F|w[=+]|U)", 0.95, "'; drop table x--"),
        ("union", r"^s\){0,9}[;]?U[a(]{0,9}E", 0.98, "' union select 1"),
        ("union, broken off", r"^s\){0,9}U(?:$|a|\()", 0.7, "' union all"),
        ("comparison with a call", r"^s\){0,9}N?=\(?[fZ]\(", 0.85, "' rlike sleep(5)"),
        ("boolean mode", r"^s\){0,9}=ww\){1,3}", 0.85, "' in boolean mode) and 1=1"),
        ("arithmetic of nothing", r"^s[+*=]S$", 0.55, "'-'"),
        ("a call in place", r"^s\){0,9}&N?\(?[=fw]\(", 0.75, "' or isnull(1/0)"),
        ("ordering", r"^s\){0,9}O\(?[1w(]", 0.85, "' order by 3--"),
        ("having", r"^s\){0,9}H", 0.8, "' having 1=1--"),
        ("limit", r"^s\){0,9}L[1s](?:$|[,cLU])", 0.7, "' limit 1--"),
        ("procedure", r"^s\){0,9}X(?:w|Z|f|v|S|s|d)", 0.85, "' procedure analyse()"),
        ("into", r"^s\){0,9}i[ws]?[sS1v]", 0.9, "' into outfile '/tmp/x"),
        ("where", r"^s\){0,9}W.{0,12}?=", 0.8, "') where 1=1--"),
        ("logic and a word", r"^s\){0,9}&N?\({0,4}[1w]$", 0.3, "' or x"),
    )
)
BARE = tuple(
    Shape(name, re.compile(pattern), score, example, name == "tautology")
    for name, pattern, score, example in (
        ("ordering of numbers", rf"^[+]?[1wst][)]{{0,9}}[&|]{{1,2}}{_LIT}=", 0.75, "1 and 5>4"),
        (
            "tautology",
            rf"(?:^|[1wsvt)+])[)]{{0,9}}[&|]{{1,2}}{_LIT}[+1*]{{0,6}}\){{0,3}}N?={{1,2}}N?{_LIT}(?:$|[^,w1ksF])",
            0.9,
            "1 or 1=1",
        ),
        ("truth after a number", r"^[+]?[1s][)]{0,9}[&|]{1,2}N?[(]?t(?:$|[c;&)])", 0.65, "1 or true"),
        (
            "compared with a string",
            r"^[1vw(]?[)]{0,9}&N?\({0,9}(?:w(?:\.w)?)=(?:s|S)(?:$|[)&c])",
            0.6,
            "1 or name='x'",
        ),
        (
            "logic, then a call",
            r"(?:^|^[+]{0,2}[1wst])[)]{0,9}[&|]{1,2}N?\({0,9}(?:f|Z)(?:\.w){0,3}\(",
            0.85,
            "1 and sleep(5)",
        ),
        (
            "logic, then a subquery",
            r"(?:^|[1wst)+])[)]{0,9}[&|+=,*N]{1,3}[1sw]?[=]?a?\({1,9}E",
            0.95,
            "1 and (select 1)=1",
        ),
        ("compared with a subquery", r"[&|]N?\(?[1sw]=\(*E", 0.9, "1 and 1=(select 1)"),
        ("union", r"U[a(]{0,9}E(?:[1s*v(tC+a]|[wfZ][.,(;c)]|w=|wF|F|$)", 0.97, "1 union all select 1,2"),
        ("union of values", r"U[a]?\(?w?\({0,3}[st1](?:,[st1]){1,2}", 0.8, "union values(1,2,3)"),
        ("conditional statement", r"^f\([^)]{1,12}=[^)]{1,12}\)(?:E|X|D)", 0.85, "if(1=1) select 1"),
        ("block", r";w{1,2}(?:\.Z|Z)\(|^X;?c|;X(?:;|c|$)", 0.8, "; shutdown--"),
        ("another statement", r";(?:D|X[vwsfZd]|E[1*(sv]|E[fwZ]\(|E.{1,40}?F|UE|Zs?\()", 0.85, "1; drop table users"),
        ("a query", r"E(?:[^;FE]{0,2}[1*(,sv+|.][^;FE]{0,40}|a[^;FE]{0,8})F\(?[wE]", 0.8, "select a, b from t"),
        (
            "a query with a condition",
            r"E[^;FE]{1,24}F[w.,]{1,8}(?:W.{0,16}?=|O|Lc?1|c)",
            0.85,
            "select a from b where c=d",
        ),
        ("a query of a literal", r"^\(*E[a]?[(]*(?:[1sv]|Z\(|f\().{0,40}$", 0.6, "select 1"),
        ("a query without tables", r"\(E[a(]{0,4}(?:[1sv*]|[fZ]\(|C|w\))", 0.75, "(select 1)"),
        (
            "waiting or telling function",
            r"(?:^|[1wst)]?[&|+=(,;*EW)O])N?\({0,9}Z\((?:\)|[1sSvtfZN(E+]{1,3}[^w1])",
            0.75,
            "sleep(5)",
        ),
        ("wait", r"X[d]s|X[d]S", 0.95, "waitfor delay '0:0:5'"),
        ("execution", r"X(?:v[+=w]|Z|w\.\.?[wZ]|\(\(?[fw]?\(?s)", 0.85, "exec xp_cmdshell 'dir'"),
        ("declaration", r"X?v[wf]\(?1?\)?;?(?:w?v=|X)|Xv[wf]", 0.85, "declare @a varchar(9)"),
        ("a changing statement", r"^\(?D[wi.]{0,4}(?:W.{0,12}?=|[sS]|c|;)", 0.6, "drop table users;"),
        ("a changing statement, broken off", r"^\(?D[wi.]{0,4}\(", 0.4, "insert into users ("),
        ("an insert", r"D[w.]{1,6}(?:\([^)]{0,40}\))?(?:w\(|E|w[1s])", 0.8, "insert into t values (1)"),
        ("an update", r"w[w.]{1,4}w=[1sSfw].{0,12}?W[w.]{1,4}=", 0.7, "update t set a=1 where b=2"),
        ("ordering", r"^[+]?[1ws][)]{0,9}O\(?1(?:,1){0,64}(?:c|$)", 0.75, "1 order by 9--"),
        ("ordering by a query", r"O\(?(?:C|\(?E|[fZ]\()", 0.8, "1 order by (select 1)"),
        ("having", r"(?:^|[1ws)c])H\(?[1sf]\(?.{0,6}?=", 0.8, "1 having 1=1"),
        ("case", r"[E(&=+,O|]\(?C{1}.{0,6}?C.{1,60}?C", 0.8, "(case when 1=1 then 1 else 2 end)"),
        ("case alone", r"^C[^C]{0,8}C[(]?[1sf].{0,6}?=.{0,12}?C", 0.75, "case when 1=1 then"),
        ("procedure", r"(?:^|[1ws)])X[Z]\(", 0.9, "1 procedure analyse(1)"),
        ("closing and commenting", r"^[+]?[1w]\){1,9}(?:;?c|U|O|H)", 0.7, "1)--"),
        ("number, then comment", r"^[+]?1;?c$", 0.35, "1--"),
        ("string functions", r"f\((?:1|f\(|s)[,1s)f(]{0,12}\)?(?:\|{1,2}|[+])f\(", 0.7, "char(65)||char(66)"),
        ("comparison of a call", r"[&|]N?\(?f\(.{0,24}?\)=", 0.85, "and ascii(substr(a,1,1))>64"),
        ("membership of a query", r"=\(E", 0.75, "in (select 1)"),
        ("chained conditions", r"^\(?[1s]=[1s]\)?(?:c|$)", 0.3, "1=1"),
        ("limit and procedure", r"L1(?:,1)?(?:Xw?|i)", 0.8, "limit 1 into @x"),
        ("conditional function", r"^f\([1sw]\(?=[1sfw].{0,12}?,.{1,12}?,", 0.7, "if(1=1,1,2)"),
        ("a range", r"^[1s]\)*N?=[1s]&[1s](?:$|[c&])", 0.6, "1 between 1 and 2"),
    )
)


class Found(NamedTuple):
    """A tokeniser's verdict: what was found, how sure, and the bytes of the value that show it."""

    kind: str
    score: float
    matched: str


def letters(text: str) -> tuple[str, list[int]]:
    """The value's tokens as letters, and where each begins.

    >>> letters("1 or 1=1--")[0], letters("union square or select committee")[0]
    ('1&1=1c', 'Uw&Ew')
    """
    found: list[str] = []
    starts: list[int] = []
    before = ""
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "space":
            continue
        token = match.group()
        if kind == "c" and _PROSE.match(token):
            kind = "k"
        before, letter = _letter_of(kind or "", token, before, text, match.end(), found)
        if letter:
            found.append(letter)
            starts.append(match.start())
    return "".join(found), starts


def _letter_of(kind: str, token: str, before: str, text: str, end: int, found: list[str]) -> tuple[str, str]:
    if kind == "w":
        word = token.lower()
        return _word(word, before, text, end, found)
    letter = "g" if token in ("<", ">") else _KINDS.get(kind)
    if letter is None:
        letter = token if kind == "p" else "?"
    return "", letter


_PROSE = re.compile(r"\W{0,20}\w{1,40}\W{1,9}\w{2}")  # a comment of several words: more likely a dash in a sentence
_KINDS = {"c": "c", "k": "k", "s": "s", "S": "S", "id": "w", "n": "1", "v": "v", "and": "|", "cmp": "=", "op": "+"}


def _word(word: str, before: str, text: str, end: int, found: list[str]) -> tuple[str, str]:
    if before and word in _PAIRS[before]:
        found[-1] = "O" if word == "by" else "w" if word == "join" else "D"
        return "", ""
    letter = _WORDS.get(word)
    if letter is None:
        call = text[end : end + 1] == "(" or text[end : end + 4].lstrip()[:1] == "("
        if word in DANGEROUS or _dotted(word, text, end):
            letter = (
                "Z" if call or "." in word or word.startswith(("xp_", "sp_")) or text[end : end + 1] == "." else "w"
            )
        else:
            letter = "f" if call and word in FUNCTIONS else "w"
    return (word if word in _PAIRS and letter != "f" else ""), letter


def _dotted(word: str, text: str, end: int) -> bool:
    return word.startswith(("dbms_", "utl_", "ctxsys")) and text[end : end + 1] == "."


def find(text: str) -> Found | None:
    """The strongest sign of SQL injection in a value, None when it is no SQL.

    >>> find("1' or '1'='1").kind, find("x') union select 1,2,3--").score
    ('tautology', 0.98)
    >>> find("it's black or white, isn't it"), find("select one from the drop-down list and order by Friday")
    (None, None)
    """
    best: Found | None = None
    if "\\" in text and _ESCAPED.search(text):
        best = find(_ESCAPED.sub(r"\1", text))  # read by a program that escapes the quote once more
    seen, starts = letters(text)
    best = _strongest(BARE, seen, starts, text, 0, best)
    for quote in "'\"`":
        if quote in text and (best is None or best.score < 0.9):
            inside = _after_quote(text, quote)
            seen, starts = letters(inside)
            best = _strongest(QUOTED, seen, starts, text, len(inside) - len(text), best)
            best = _deeper(seen, starts, inside, text, best)
    return best


_ESCAPED = re.compile(r"\\+(['\"])")


def _after_quote(text: str, quote: str) -> str:
    """The value as it follows an opening quote; a backtick quotes names in MySQL and reads as any string here."""
    return f"'{text.replace(chr(39), ' ').replace('`', chr(39))}" if quote == "`" else f"{quote}{text}"


def _deeper(seen: str, starts: list[int], inside: str, text: str, best: Found | None) -> Found | None:
    """Behind the closed string the rest is read like a bare value: unions, subqueries, statements."""
    if len(seen) > 2 and seen[0] == "s" and seen[1] not in "wsS1?v=.E":
        return _strongest(BARE, seen, starts, text, len(inside) - len(text), best)
    return best


def _strongest(
    shapes: tuple[Shape, ...], seen: str, starts: list[int], text: str, shift: int, best: Found | None
) -> Found | None:
    if len(seen) < 2:
        return best
    loose = seen.replace("g", "=")
    for shape in shapes:
        if best is not None and shape.score <= best.score:
            continue
        found = shape.pattern.search(seen if shape.strict else loose)
        if found:
            begin = max(0, starts[found.start()] - shift)
            last = found.end()
            stop = starts[last] - shift if last < len(starts) else len(text)
            best = Found(shape.name, shape.score, text[begin : min(stop, begin + 200)])
    return best


@lru_cache(maxsize=1)
def examples() -> list[tuple[str, str]]:
    """(shape, example) of every shape, for the tests."""
    return [(f"quoted: {s.name}", s.example) for s in QUOTED] + [(f"bare: {s.name}", s.example) for s in BARE]
