"""Would a shell run something because of this value? Decided by reading it as a command line.

Commands count where a shell expects one: behind `;` `|` `&&` a newline, in `$(...)` and backquotes, or as the whole value with
arguments no sentence has. Quotes, backslashes and `$IFS` that only hide a word are taken away first.
"""

from __future__ import annotations

import re

from shopward.traffic.attacks.sql import Found
from shopward.traffic.attacks.words import words

# Commands nobody writes by chance behind a separator.
CLEAR = words("shell_commands")
# Commands that are also words; they need arguments of a command line.
WORDS = words("shell_commands_that_are_words")
_HIDING = re.compile(
    r"""(?<=[\w/?*$])(?:''|""|\\{1,4}(?=[\w/*?$])|\$[@*!?$#_-]|`{2}|\$\{?[a-zA-Z_]\w{0,20}\[?@?\]?:?-?\}?(?=[a-z\\])|\$[a-z]\w{0,3}(?=,)|\^(?=\w)|\$\(\)|[<>]\(\))(?=[\w/?*$.,\\])"""
)
_QUOTED_WORD = re.compile(
    r"""(?<![\w=])(["'])([a-zA-Z/]{1,30})\1(?=[\w\s/$;|&<>-]|$)|(?<=[\w/])(["'])([\w/.-]{1,30})\3|(["'])([\w/.-]{1,30})\5(?=[\w/])"""
)
_IFS = re.compile(r"\$\{?IFS[^}\s]{0,12}\}?(?:\$\d)?|\$IFS\$?\d?|%09|\t|\{,(?=\w)", re.IGNORECASE)
_BRACES = re.compile(r"\{([a-z]{2,12}),([^{}\s]{1,200})\}", re.IGNORECASE)

_PREFIX = r"(?:[\s({!@'\"]|\.\s|\w{1,20}=[^\s;|&]{0,80}\s|(?:sudo|exec|env|nohup|time|nice|command|builtin|then|do|else|eval|busybox|timeout\s\d{1,4})\s|[<>]{1,2}\s?[\w/.]{1,80}\s){0,6}"
_PATH = r"(?:[\w.~*?\[\]-]{0,30}[/\\]|[a-z]:\\|%\w{1,30}%\\?){0,10}"
_WORD = r"([a-z_?*\[\]][\w.?*\[\]-]{0,40})"
_SEPARATED = re.compile(
    rf"(;|\|\|?&?|&&?|\n|\r|`|\$\(|<\(|>\(|\$\{{|%0a|\\n)({_PREFIX})({_PATH}){_WORD}(?=([\s\S]{{0,200}}))",
    re.IGNORECASE,
)
_WHOLE = re.compile(rf"^(['\")\s]{{0,6}})({_PREFIX})({_PATH}){_WORD}(?=([\s\S]{{0,200}}))", re.IGNORECASE)

_ARGUMENT = re.compile(
    r"""\s+(?:-{1,2}[a-z]|/(?:[a-z?]\b|\w+[/.]|etc|bin|tmp|dev|var|proc|\*)|\.{0,2}/|~|\$|[<>|;&`]|\*|https?:|ftp:|\\\\|[a-z]:\\|%\w+%|["'{(\[@]
    |\d{1,3}\.\d{1,3}\.|\w+\.(?:php|sh|py|pl|txt|ini|conf|exe|asp|aspx|jsp|log|xml|bat|dll|html?|com|net|io|org|ps1|jar|cfg|passwd)\b|\d{1,3}(?:\s*$|\s*[;|&#)`]))
    |[<>|;&`)]|\s*$|\$|\s+\#|/|\\|,|"|'""",
    re.VERBOSE | re.IGNORECASE,
)
_HARD = re.compile(
    r"""\s+(?:-{1,2}[a-z]{1,12}\b|/(?:etc|bin|tmp|dev|var|proc|usr|home|root|opt|c|k|v)\b|\.{1,2}/|\$[\w({]|`|&&|<\s?[/(]|>{1,2}\s?[/&\w]|(?:https?|ftp|tcp|file)://|\\\\|[a-z]:\\|%\w+%
    |\d{1,3}\.\d{1,3}\.\d{1,3}\.|-\w|[\w.-]{1,40}@[\w-]{1,60}\.[\w.]{2,20}|(?:if|of)=|\w+\.(?:php|sh|py|pl|ini|conf|exe|aspx?|jsp|bat|ps1|ya?ml|tf|rb|zst|gz|xz|bz2|tar)\b)|[<>|;&`$]|/etc/""",
    re.VERBOSE | re.IGNORECASE,
)
_ONLY_COMMANDS = words("shell_commands_alone")
# What a value may start with to be read as a command at all.
STARTS = (CLEAR | _ONLY_COMMANDS | {pair.split(":")[0] for pair in words("shell_subcommands")}) | frozenset(
    (
        "exec",
        "nohup",
        "command",
        "builtin",
        "time",
        "timeout",
        "setsid",
        "alias",
        "export",
        "unset",
        "set",
        "readonly",
        "declare",
        "bin",
        "sbin",
        "source",
        "trap",
        ".",
    )
)
_FIRST = re.compile(r"^[^\w\n]{0,6}([a-z][\w.-]{0,30})(?=[\s/\\\[+:,;|&'\"]|$)", re.IGNORECASE | re.MULTILINE)


def starts(text: str) -> bool:
    """Does a line of the text begin with the name of a command?

    >>> starts("'cat' /etc/passwd"), starts("category"), starts("a b\\nid;")
    (True, False, True)
    """
    return not STARTS.isdisjoint([word.lower().removesuffix(".exe") for word in _FIRST.findall(text)])


_OTHERS = (
    ("shellshock", 0.97, re.compile(r"\(\s{0,4}\)\s{0,4}\{[^}]{0,40}\}\s{0,4};|^\s{0,4}\(\s{0,4}\)\s{0,4}\{")),
    ("fork bomb", 0.95, re.compile(r"\(\s{0,3}\)\s{0,3}\{[^}|]{0,40}\|[^}&]{0,40}&\s{0,3}\}")),
    ("network device", 0.95, re.compile(r"/dev/(?:tcp|udp)/[\w.$-]{1,100}/\d|/inet/tcp/\d|sh\s{1,4}-i\b", re.IGNORECASE)),
    ("program by its path", 0.8, re.compile(r"(?:^|[\s;|&`(=\"'<>/])/{1,2}(?:usr/)?(?:local/)?s?bin/{1,2}[a-z?*\[\]][\w?*.-]{1,30}\b", re.IGNORECASE)),
    ("program by a pattern", 0.85, re.compile(r"(?:^|[\s;|&`(\"'=])/(?:[\w\]]{0,12}[?*\[][?*\w\[\]]{0,12}|s?bin|usr|etc|opt|tmp|var|home|root|proc|dev)/(?=[\w?*\[\]]{0,12}[?*\[])[\w?*\[\]]{2,16}(?:\s+[/\-\w$]|\s*$)|/\?{2,4}/", re.IGNORECASE)),
    ("hidden separator", 0.85, re.compile(r"\$\{?ifs\b|\$ifs", re.IGNORECASE)),
    ("Windows program", 0.85, re.compile(r"(?:cmd(?:\.exe)?\s{1,4}/[ckr]\b|cmd\.exe\b|\b(?:ipconfig|netstat|tasklist|systeminfo|dir)\s{1,4}/[a-z]{1,4}\b|%comspec%|%programfiles:~|powershell(?:\.exe)?\s{1,4}-|powershell\.exe|\\system32\\\w{1,30}\.exe|certutil(?:\.exe)?\s{1,4}-|"
     r"\b(?:iex|invoke-(?:expression|webrequest|restmethod|command|item|wmimethod))[\s(]|new-object\s{1,4}(?:system\.)?net\.|frombase64string|downloadstring\s{0,3}\(|\[convert\]::)", re.IGNORECASE)),
    ("reverse shell", 0.9, re.compile(r"\b(?:nc|ncat|netcat)(?:\.exe)?\s{1,4}(?:-\w{1,6}\s{1,4}){0,4}(?:\S{1,60}\s{1,4})?\d{2,5}|mkfifo\s{1,4}/|(?:bash|sh|zsh)\s{1,4}-c\b|python\d?\s{1,4}-c\b|perl\s{1,4}-(?:e|M)|ruby\s{1,4}-r?e|php\s{1,4}-r\b", re.IGNORECASE)),
    ("substitution", 0.75, re.compile(r"\$\(\(?\s{0,4}(?:\d|<|[a-z/]{1,30}[\s)])[^)]{0,200}\)?|`[^`]{0,100}(?:\s-|/|\||\$)[^`]{0,100}`", re.IGNORECASE)),
    ("variable expansion", 0.7, re.compile(r"\$\{(?:#|!)?[a-z_]\w{0,20}(?::\d|[#%/^,@]{1,2})[^}]{0,60}\}|\$\{(?:path|home|pwd|shell|user|env|ifs)\b|\$(?:path|home|pwd|shell|ifs|shlvl)\b[:/${]|\$\$'|\$'\\|\$\[\d|\$\{?(?:shell|bash|0)\}?\s{1,4}-c\b", re.IGNORECASE)),
    ("PowerShell command", 0.65, re.compile(r"\b(?:get-(?:childitem|process|wmiobject|ciminstance|localuser|aduser|adcomputer|acl|eventlog|winevent|itemproperty|nettcpconnection|netipaddress|psdrive|hotfix|computerinfo|scheduledtask|mppreference|executionpolicy)|invoke-(?:\w{3,20})|(?:start|stop|wait|debug)-process|set-(?:executionpolicy|mppreference|itemproperty|alias|acl)|start-(?:job|sleep|bitstransfer)|out-(?:string|file|null)|select-string|convertto-securestring|enter-pssession|new-(?:psdrive|localuser|scheduledtask|service)|add-(?:mppreference|localgroupmember)|test-netconnection)\b|\b(?:get|set|add|new|remove|copy|move|rename|clear|write|import|export|select|where|foreach|out|stop|start|restart|test)-(?:content|item|service|location|object|command|host|output|variable|module|csv|clixml|type|path|date|history|alias|member|connection|computer|help)\s{1,4}(?:[-$\"'\\/{]|\w:\\|\w{1,40}\.\w{1,4}\b|\S{1,60}\s{0,4}\|)", re.IGNORECASE)),
    ("Windows program with options", 0.8, re.compile(r"\b(?:wmic(?:\.exe)?\s{1,4}(?:/\w{1,10}:\S{1,60}\s{1,4})?(?:process|os|useraccount|product|service|qfe|logicaldisk|startup|group|path|cpu|bios|computersystem|netuse|share)\b|reg(?:\.exe)?\s{1,4}(?:query|add|delete|save|export|copy)\s{1,4}[\"']?(?:hk|\\\\)|sc(?:\.exe)?\s{1,4}(?:query|create|config|stop|start|delete)\s{1,4}\w|netsh\s{1,4}(?:advfirewall|firewall|interface|wlan|winhttp|portproxy)\b|net1?(?:\.exe)?\s{1,4}(?:user|localgroup|view|share|use|accounts|group|start|stop|session)(?:\s{0,4}$|\s{1,4}[\\/\"]|\s{1,4}\w{1,30}\s{1,4}(?:/|\S{1,30}\s{1,4}/))|rundll32(?:\.exe)?\s{1,4}\S|vssadmin\s{1,4}(?:delete|list|create)|bcdedit\s{1,4}/|(?:schtasks|taskkill|regsvr32|bitsadmin|msiexec|forfiles|findstr|icacls|cacls|cipher|driverquery|nltest|gpresult|quser|qwinsta|wevtutil|fsutil|robocopy|xcopy|attrib|cmdkey|shutdown|tree|cscript|wscript|arp|route|cmdkey|expand|extrac32|makecab)(?:\.exe)?\s{1,4}[/-][a-z]{1,12}\b|(?:calc|notepad|mspaint|whoami|certutil|mshta|regsvr32|powershell|cscript|wscript|installutil|msbuild|regasm)\.exe\b)", re.IGNORECASE)),
    ("a setting of the shell", 0.7, re.compile(r"(?:^|[;&|\n=]\s{0,4})(?:alias\s{1,4}\w{1,20}=|export\s{1,4}\w{1,30}=|unset\s{1,4}[a-z_]{2,20}\s{0,4}(?:$|;)|set\s{1,4}[-+]o\s|readonly\s{1,4}\w{1,20}=|declare\s{1,4}-\w|typeset\s{1,4}-\w|trap\s{1,4}[\"'\-]|source\s{1,4}[~/.]|(?<=[;&|\n ])\.\s{1,4}/\w|eval\s{1,4}[\"'`$]|[a-z_]\w{0,20}=[\w\[\]?*'\"\\/.-]{1,30};\s{0,4}\$?\w{1,20}=?[^;]{0,40};?\s{0,4}\$|([a-z_]\w{0,20})=[\w\[\]?*'\"\\/.-]{1,30}\s{0,3};\s{0,4}\$\{?\1\b|[a-z_]\w{0,20}=\$\()", re.IGNORECASE)),
    ("program that runs another", 0.7, re.compile(r"(?:--checkpoint-action|--to-command|--use-compress-program|--rsh-command|-exec(?:dir)?\s{1,4}[/\w]|exec:|system:|tcp-(?:connect|listen):|proxycommand=|--eval=|--init-command|--post-file|--upload-file|--rsh=)|\b(?:nohup|setsid)\s{1,4}\w{1,20}(?:\s\S{1,60}){0,4}\s{0,3}&\s{0,3}$|\b\w{1,20}@\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b:?", re.IGNORECASE)),
    ("a redirection", 0.65, re.compile(r"^\s{0,4}[<>]{1,2}\s{0,3}(?:/(?:tmp|etc|var|dev|home|root|usr)\b|[\w./]{1,40}\.(?:php|sh|jsp|asp|txt|bat)\b)|\b[a-z]{2,12}\s{0,3}<>?\s{0,3}/(?:etc|proc|var|home|root)/", re.IGNORECASE)),
    ("shell history", 0.55, re.compile(r"^!(?:-\d{1,4}|\$|\^|!:\w{1,3})$|[;&|]\s{0,4}!(?:-?\d|!|\$)")),
    ("tilde expansion", 0.55, re.compile(r"(?:^|[\s=;|&`'\"(])~(?:[+-]|\d)(?:/|$)")),
    ("path of patterns", 0.75, re.compile(r"(?:^|[\s;|&`('\"=<{,])/\w{0,8}[?*]\w{0,8}/[\w?*/]{0,20}[?*\w]{1,20}(?:$|[\s;|&`)'\"},])|(?:^|[\s;|&`('\"=<{,])/(?:[\w.]{1,12}/){0,3}\w{0,8}\[[!^]?[\w/]{1,20}\][\w/]{1,20}", re.IGNORECASE)),
    ("quotes inside a word", 0.7, re.compile(r"\b[a-z]{1,6}`[a-z]{0,4}`[a-z]{1,8}\b|\b[a-z]{1,6}\$\((?:echo\s\w{0,6})?\)[a-z]{1,8}|\b\w(?:\^\w){3,20}", re.IGNORECASE)),
    ("SQLite shell", 0.7, re.compile(r"(?:^|[;\n])\s{0,4}\.(?:shell|system|import|dump|databases|schema|load|output|once|open|backup|clone|log|restore|save|trace|excel|archive|read|cd)(?:\s{1,4}\S|\s{0,4}$)", re.IGNORECASE)),
    ("here document", 0.7, re.compile(r"<<<?\s{0,3}['\"$\w{(]{1,20}")),
    ("output to a file", 0.6, re.compile(r"[\w\"')\]]\s{0,3}\d?>{1,2}\s{0,3}(?:&\d|/(?:tmp|dev|var|etc|home)/|[\w./\\]{1,60}\.(?:php|sh|txt|jsp|asp|aspx|bat|py|html?)\b)")),
    ("braces", 0.8, re.compile(r"\{[a-z]{2,12},[\w,]{0,60}[-/.$'\"*][-/\w.,$'\"*]{0,60}\}|\{[a-z]{1,12},-[a-z]{1,4}\}|\{,{1,3}[$'\"#]{0,2}[a-z]{2,12}['\"]{0,2},[^{}\s]{0,80}\}|\{,{0,3}/[\w]{0,3}[?*/][\w?*/]{2,30},[^{}\s]{0,60}\}", re.IGNORECASE)),
    ("Windows loop", 0.8, re.compile(r"\bfor\s{1,4}/[fdlr]\s|\bfor\s{1,4}%{1,2}\w\s{1,4}in\s{0,4}\(|\bif\s{1,4}(?:/i\s{1,4}|not\s{1,4}){0,2}(?:exist|defined|errorlevel|cmdextversion)\b", re.IGNORECASE)),
    ("shell loop", 0.75, re.compile(r"\b(?:for\s{1,4}\w{1,20}\s{1,4}in\s[^;]{1,80};|while\s[^;]{1,80};)\s{0,4}do\b|\bif\s{1,4}\[{1,2}\s|;\s{0,4}(?:done|fi|esac)\s{0,4}(?:$|[;&|])", re.IGNORECASE)),
)  # fmt: skip
_SURE = (";", "|", "||", "&&", "|&")
_STRONG = ("$(", "`", "<(", ">(")


def find(text: str) -> Found | None:
    """The strongest sign of a command in a value.

    >>> find("10.0.0.1; cat /etc/passwd").kind, find("a|w'h'o${IFS}am\\\\i").kind, find("$(sleep 5)").kind
    ('command behind a separator', 'hidden separator', 'command behind a separator')
    >>> find("fish & chips; more sauce | less salt"), find("find a cat & a dog; who knows"), find("Tom & id cards")
    (None, None, None)
    """
    plain = _plain(text)
    best = _others(plain, text)
    for look in (_separated, _whole, _started, _alone):
        if best is None or best.score < 0.9:
            found = look(plain, text)
            if found is not None and (best is None or found.score > best.score):
                best = found
    return best


def _plain(text: str) -> str:
    """The value without what only hides a command: c''at, c\\at, $IFS, {cat,file}."""
    if "$" in text or "\t" in text:
        text = _IFS.sub(" ", text)
    if "'" in text or '"' in text or "\\" in text or "$" in text or "^" in text or "()" in text:
        text = _HIDING.sub("", text)
        text = _QUOTED_WORD.sub(lambda m: m.group(2) or m.group(4) or m.group(6), text)
    if "{" in text:
        text = _BRACES.sub(lambda m: f"{m.group(1)} {m.group(2).replace(',', ' ')}", text)
    return text


# What is looked for once more when quotes and backslashes are taken away.
_ALSO_PLAIN = frozenset(("program by its path", "program by a pattern", "path of patterns"))


def _others(plain: str, text: str) -> Found | None:
    best: Found | None = None
    for kind, score, pattern in _OTHERS:
        if best is None or score > best.score:
            found = pattern.search(text)
            if found:
                best = Found(kind, score, text[found.start() : found.start() + 200])
            elif plain is not text and kind in _ALSO_PLAIN and pattern.search(plain):
                best = Found(kind, score, text[:200])
    return best


def _is_hidden(word: str, plain: str, text: str) -> bool:
    """Was this word only there once quotes, backslashes and carets were taken out of it?"""
    return plain is not text and len(word) > 1 and word not in text.lower()


def _separated(text: str, given: str) -> Found | None:
    best: Found | None = None
    for match in _SEPARATED.finditer(text):
        separator, prefix, path, word, rest = match.groups()
        score = _score(separator, prefix, path, word.lower(), rest, match.start() == 0 or len(separator) == 2)
        if score < 0.85 and word.lower() in CLEAR and _is_hidden(word.lower(), text, given):
            score = 0.85
        if score > (best.score if best else 0.0):
            best = Found("command behind a separator", score, text[match.start() : match.start() + 200])
            if score >= 0.9:
                break
    return best


# Asked first by whoever tries whether a command runs; between separators, not between words.
_ASKED = frozenset(("id", "ls", "ps", "env", "whoami", "pwd"))
_CLOSED = re.compile(r"\s{0,4}(?:\|\||&&|[;|#)]|$)\s{0,4}(?:$|[\"'#(){}]|x?$)")
_SECONDS = re.compile(r"\s{1,4}\d{1,6}[smh]?\s{0,4}(?:$|[;|&`)#])")
_SUBSTITUTED = re.compile(r"(?:\s{1,4}[\w./-]{1,60}){0,4}\s{0,4}[)`]")
_SHORT = words("shell_commands_without_arguments")
# Kinds of finds that are a whole value, not a part of a sentence.
WHOLE = frozenset(
    (
        "command with arguments",
        "program with its own words",
        "program through another",
        "hidden command",
        "command alone",
        "a setting of the shell",
        "Windows program with options",
        "PowerShell command",
    )
)


def _score(separator: str, prefix: str, path: str, word: str, rest: str, first: bool) -> float:
    known = word in CLEAR or word.removesuffix(".exe") in CLEAR
    also_word = word in WORDS
    if not known and not also_word:
        return 0.0
    inside = separator in _STRONG
    if path and ("bin" in path or "system32" in path.lower()):
        return 0.93
    if also_word and not inside:
        if not rest.strip() or rest.lstrip()[0] in ";|&)":
            ends = rest.strip() in ("", separator)
            if first and ends and not prefix.strip() and word in _SHORT:
                return 0.6
            return 0.55 if word in _ASKED and _CLOSED.match(rest) and separator != "&" else 0.0
        if word == "sleep" and _SECONDS.match(rest):
            return 0.85
        return 0.88 if _HARD.match(rest) else 0.0
    if inside:
        return 0.9 if _ARGUMENT.match(rest) else 0.75 if separator in ("<(", ">(") or _SUBSTITUTED.match(rest) else 0.4
    if separator in ("&", "\n", "\r") and not rest.strip():
        return 0.6 if word not in ("ip", "at", "su", "reg") else 0.3
    if _HARD.match(rest):
        return 0.9
    return 0.75 if _ARGUMENT.match(rest) else 0.6 if separator in _SURE and len(word) > 2 else 0.3


def _whole(text: str, given: str) -> Found | None:
    """A value that is nothing but a command with its arguments."""
    match = _WHOLE.match(text)
    if match is None:
        return None
    _, prefix, path, word, rest = match.groups()
    word = word.lower()
    known = word in _ONLY_COMMANDS
    if word in CLEAR and len(word) > 2 and _is_hidden(word, text, given):
        return Found("hidden command", 0.85, given[:200])
    if path and _BINARIES.fullmatch(path) and (known or word in CLEAR):
        return Found("command by its path", 0.6, text[:200])
    if not (known or word in CLEAR) or (not rest and not prefix):
        return None
    if known and path and _PROGRAMS.search(path) and rest.strip() and rest[0] not in "/\\":
        return Found("command by its path", 0.8, text[:200])
    if rest.lstrip()[:1] in (";", "|", "&"):
        return Found("command, then another", 0.6, text[:200]) if word in _TELLING else None
    if not _HARD.match(rest):
        return None
    if rest[0] == "$" or (word in WORDS and _LONG_WORD.match(rest)):
        return None  # a$b is one word, and so is cat -themed
    sure = word not in WORDS or rest.lstrip()[:1] in "/|;&$>." or _OPTION.match(rest)
    return Found("command with arguments", 0.65 if sure else 0.5 if known else 0.0, text[:200])


def _alone(text: str, given: str) -> Found | None:
    """Nothing but the name of a command: a search for it in most places, a command in a header that names the client."""
    word = given.strip("'\" ").lower()
    return Found("command alone", 0.3, given[:200]) if word in _ALONE or ("-" in word and word in CLEAR) else None


# Programs that tell about the machine, and are no products.
_TELLING = frozenset(
    "whoami ifconfig ipconfig uname netstat printenv visudo systeminfo tasklist hostnamectl lsblk lscpu".split()
)
# Names that no client bears.
_ALONE = frozenset(
    "id ls ps env pwd whoami uname cat rm ifconfig ipconfig netstat hostname dir set uptime visudo printenv".split()
)


# Folders in which programs lie, as in /bin/id and ./run; a path of a shop is none.
_PROGRAMS = re.compile(
    r"s?bin[/\\]|^\.{1,2}/|^/(?:usr|tmp|opt|var|home|dev)/|system32|windows|[?*\[%~]|^[a-z]:", re.IGNORECASE
)
_BINARIES = re.compile(r"/?(?:\w{1,12}/){0,3}s?bin/", re.IGNORECASE)
_LONG_WORD = re.compile(r"\s{1,4}-[a-z]{4,}\b(?!\s{1,4}[-/.\d])", re.IGNORECASE)  # cat -themed mug
_OPTION = re.compile(r"\s{1,4}(?:-[a-z]{1,3}|--[a-z][a-z-]{1,20})(?:[\s=]|$)", re.IGNORECASE)
SUBCOMMANDS = frozenset(tuple(pair.split(":", 1)) for pair in words("shell_subcommands"))
# Programs that only run another, and are no words.
_RUNNERS = frozenset(("nohup", "setsid", "sudo", "strace", "ltrace", "stdbuf", "ionice", "busybox", "xargs"))
_STARTED = re.compile(
    r"^['\"\s]{0,4}(?:(sudo|exec|nohup|command|builtin|busybox|time|timeout\s\d{1,4}s?|env|setsid|xargs|strace|ltrace|stdbuf|ionice|chrt|unshare)\s{1,4})?"
    r"'?([a-z][\w.-]{1,20})'?(?:\s{1,4}(-{0,2}[\w:/.-]{1,40}))?(?:\s|$|[;&|])",
    re.IGNORECASE,
)


def _started(text: str, given: str) -> Found | None:
    """A value that starts a program through another, or with the program's own first word: sudo su, docker run x, ps aux."""
    match = _STARTED.match(text)
    if match is None:
        return None
    through, word, argument = (g.lower() if g else "" for g in match.groups())
    if through in _RUNNERS and word in WORDS and not argument and len(word) > 2:
        return Found("program through another", 0.55, text[:200])
    if (word, argument) in SUBCOMMANDS:
        return Found("program with its own words", 0.6, text[:200])
    if (
        through
        and word in CLEAR | _ASKED
        and (word not in WORDS or word in _ASKED or through in _RUNNERS)
        and (not argument or argument[0] in "-/")
    ):
        return Found("program through another", 0.6, text[:200])
    return None
