# ruff: noqa: E501, SIM905 - patterns and word lists read better whole
"""What a match is: a secret, or something that only looks like one.

Rules: a check returns why a match is no secret, "" when it is one; it sees the line, its neighbours and the path, never the
world; placeholders, references to a secret kept elsewhere, digests, public halves and documentation keys are known for what
they are. A check that is not known is an error.
"""

import base64
import binascii
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

SAMPLE = re.compile(
    r"(?i)\.(example|sample|template|tmpl|tpl|dist|in|j2|erb|default)$|(^|/)(example|sample)s?\.env$|[._-](example|sample|template)\."
)
CODE = re.compile(
    r"\.(py|pyi|js|jsx|mjs|cjs|ts|tsx|java|kt|kts|scala|go|rs|c|h|cc|cpp|hpp|cs|swift|m|mm|rb|php|pl|pm|lua|r|jl|ex|exs|erl|hs|"
    r"clj|dart|vue|svelte|groovy|ps1|psm1|vb|fs|sol|proto|graphql|css|scss|less|sql|ipynb|tf)$"
)
SETTINGS = re.compile(
    r"(?i)\.(ya?ml|ini|cfg|conf|cnf|config|properties|props|env|toml|tfvars|json5?|xml|plist|sh|bash|zsh|fish|service|rc|settings|cmd|bat|reg|"
    r"sls|rsc|hcl|exp|ovpn|nmconnection|xcconfig)"
    r"(\.\w+)?$|(^|/)[^/.]+$|(^|/)\.[^/]+$"
)
LOCALE = re.compile(
    r"(?i)(^|/)(locales?|i18n|l10n|lang|langs|languages?|translations?|messages)([/_.-]|$)|\.(po|pot|xlf|strings|arb)$"
)
OPENAPI = frozenset(
    (
        "string str int integer bool boolean number object array null none nil undefined true false yes no on off "
        "required optional enabled disabled text hidden bearer basic jwt oauth oauth2 plain password passwd passphrase "
        "pass pwd secret token key value default empty test testing tests admin root user username login guest demo any "
        "unknown name email auth api apikey api_key credential credentials input type field label changed change reset "
        "forgot confirm invalid missing wrong incorrect mandatory private public internal session access refresh id "
        "header query cookie body form file env vault keychain"
    ).split()
)
FILLED = re.compile(
    r"(?i)change.{0,3}(me|this|it|now)|place.?holder|\byour\b|your[-_ ]|[-_]your|<[^>]*>|redacted|\bdummy\b|dummy[-_]|replace[-_ ]?(me|this|with)|"
    r"anonymous|\banon(cvs|svn|hg|git)\b|\btodo\b|\bfixme\b|insert[-_ ]|_here\b|-here\b| here$|\bexample|EXAMPLE|x{5,}|\*{3,}|\.{3}|\bfake|fake[-_]|not[-_ ]?a[-_ ]?real|put[-_ ]your|"
    r"\{\w+:[0-9]*\}|my[-_]?(api[-_]?key|secret[-_]?key|token|password)$|^(test|sample|mock)[-_]?(token|key|secret|password|api[-_]?key)?[0-9]{0,3}$|"
    r"^(password|passw0rd|secret|token|apikey)[-_]?[0-9]?$|^some[-_]|^the[-_]"
)
FILLED_PASSWORD = re.compile(
    r"(?i)change[-_ ]?(me|this|it|now)(?![a-z0-9])|place.?holder|\byour[-_ ]?|^<.*>?$|redacted|replace[-_ ]?(me|this|with)|\btodo\b|[-_ ]here$|^x{3,}$|^\*+$|^\.+$|"
    r"^(null|none|nil|undefined|true|false|yes|no|on|off|required|optional|string|password_here|empty|(my|npm)?[-_]?(auth)?[-_]?token[0-9]?|prompt|ask|keychain|-+)$|put your unique phrase"
)
COUNTING = re.compile(r"(?i)0123456789|1234567890|abcdefghij|abcdef0123|deadbeef|qwertyuiop")
REFERENCE = re.compile(
    r"^\$\{.*|^\$\(.*|^\$[A-Z_][A-Z0-9_]*$|^\{\{.*|^\{%.*|^%[(%<{].*|^%[\w]+%$|^%s$|^#\{.*|^<%.*|^@@?\w+@$|^!(Ref|Sub|GetAtt|ImportValue|vault|reference|env|include|secret)\b|^\{[\w.:-]*\}$|^\[.*\]$|^&\w+;$|"
    r"(?i:^(process\.env|os\.|env[.\[(:]|environ|system\.|config\.|self\.|this\.|params|var\.|local\.|data\.|module\.|each\.|secrets?\.|"
    r"settings\.|vault:|aws:|op://|ref\+|sops|enc\[|arn:|ssm:|kms:|azurekv|gcpsm|keyring|file:|projects/|secret/|kv/|"
    r"get(env|_env|_secret|_token|_password|enviro|pass\b)|input\(|read(line)?\(|str\(|none\b|null\b|new\s|def\s|"
    r"(prompt|lookup|fetch|load|function|lambda|async|await|return|import)(\w*(\s|[(.\[])|$)))|\$\{\{|\$\{[A-Za-z_]|\{\{"
)
PLACE = re.compile(
    r"^(~|\.{1,2})?/[\w./@+-]*$|^[A-Za-z]:\\|^[\w-]+(/[\w.-]+)+\.\w{1,5}$|(?i:^(https?|ftp|ssh|git|wss?|file|urn|data|mailto):)|\.(pem|key|crt|txt|json|ya?ml|py|js|php|html?|md|png|svg|so)$"
)
WORDS = re.compile(r"^_{0,2}[A-Za-z]+([-_.:/ ]+[A-Za-z]+)*[-_.:]?(v?[0-9]{1,3})?$")
CAMEL = re.compile(  # words, not letters at random; no run can be cut in two, so a long one costs no more
    r"^([A-Z][a-z]{2,}(?![a-z])|(?<![A-Za-z])[a-z]{2,}(?![a-z])|(?<![A-Z])[A-Z]+(?![a-z])|(?<![0-9])[0-9]{1,4}(?![0-9])|[._*/-])+$"
)
CALL = re.compile(r"^\s?[(\[]|^\s*(\.\w+)+\(|^\s*\+\s*\w")
NOT_SECRET_NAME = re.compile(
    r"(?i)public|hash|digest|sha[0-9]|checksum|integrity|fingerprint|csrf|xsrf|next_?page|page_?token|continuation|cancellation|"
    r"(eos|bos|unk|cls|sep|pad|mask|special|image|end|start|stop|begin|system|max|num|min|total|prompt|per|n|added)[._-]?token|"
    r"token[._-]?(id|type|name|count|limit|url|uri|endpoint|class|ize)|tokenizer|placeholder|label|partition|primary|foreign|"
    r"(sort|cache|row|group|dict|object|map|index|idempotency|lock|bucket)[._-]?key|regex|pattern|validator|keyboard|monkey|turkey"
)
SENTENCE = re.compile(r"""["']([\w,;.-]+ ){3,}[\w-]+["']\s{0,3}:\s{0,3}$""")
HEX = re.compile(r"^[0-9a-fA-F]+$")
UUID = re.compile(r"^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$")
SAID_SECRET = re.compile(
    r"(?i)(passw|passphrase|secret|token|api[-_ ]?key|access[-_ ]?key|auth[-_ ]?key|credential|private[-_ ]?key|bearer)[\w-]{0,20}[\"'\]]{0,3}\s*(=>|[:=]|\bis\b)\s*\W{0,3}$"
)
SAID_SOMEWHERE = re.compile(SAID_SECRET.pattern.removesuffix(r"\s*\W{0,3}$"))
TABLE = 400  # lines before a row in which its table is looked for
KEY_LINES = 400  # a longer key or table is known by its beginning
KEY_BODY = re.compile(r"^[A-Za-z0-9+/=]{32,}($|\W)")
FOLLOWING = {  # for a head: what the secret below it is preceded by, and how many lines that may take
    "call": (re.compile(r"""\w+\(\s*(?:["'][^"'\n]{1,100}["']|[\w.]{1,60})\s*,\s*["']([^"'\n]{4,200})["']\s*[,)]"""), 6),
    "value": (re.compile(r'"\w+"\s*:\s*"[^"]+"\s*,\s*"(?:value|(?:current|initial)_?[vV]alue)"\s*:\s*"([^"\\\n]{4,300})"'), 2),
    "inline": (re.compile(r"\s*<auth-user-pass>\s*\n\s*\S+\s*\n\s*(?!</)(\S+)"), 3),
}
DOCUMENTED = (
    "eyJzdWIiOiIxMjM0NTY3ODkw",
    "4eC39HqLyjWDarjtT1zdp7dc",
    "eyJzb21lIjoicGF5bG9hZCJ9",
    "mF_9.B5f-4.1JqM",  # this and the next two: examples of RFCs
    "czZCaGRSa3F0MzpnWDFmQmF0M2JW",
    "h480djs93hd8",
    "wJalrXUtnFEMI",
    "je7MtGbClwBF/2Zp9Utk",
    "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
)


class Place(NamedTuple):
    """Where a match stands: the lines of its text, which of them, its columns, the name it is assigned to, the path."""

    lines: Sequence[str]
    at: int
    start: int
    end: int
    key: str
    path: str

    @property
    def line(self) -> str:
        """Return the line itself."""
        return self.lines[self.at]


def entropy(text: str) -> float:
    """Return the entropy of *text* in bits for each character."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def why_not(check: str, secret: str, place: Place) -> str:
    """Return why *secret* is none under *check*, "" when it is one."""
    return CHECKS[check](secret, place)


def token(secret: str, place: Place) -> str:
    """Judge something whose form alone says what it is."""
    if FILLED.search(secret) or COUNTING.search(secret) or any(known in secret for known in DOCUMENTED):
        return "placeholder"
    before, after = place.line[max(0, place.start - 1) : place.start], place.line[place.end : place.end + 1]
    if (before.isalnum() and secret[:1].isalnum()) or (after.isalnum() and secret[-1:].isalnum()):
        return "part of a longer word"
    varied = re.sub(r"^[A-Za-z]{2,12}[-_.]|(?i:live|test|prod|_|-)", "", secret)
    return "" if entropy(varied or secret) >= min(2.8, 0.7 * math.log2(len(varied) or 2)) else "placeholder"


def password(secret: str, place: Place) -> str:
    """Judge what stands where a file of this name holds a password."""
    if SAMPLE.search(place.path):
        return "sample file"
    if FILLED_PASSWORD.search(secret):
        return "placeholder"
    if secret.isdigit() and SENTENCE.search(place.line[: place.start]):
        return "prose"  # a count under a name of many words
    if REFERENCE.search(secret) or CALL.search(place.line[place.end :]):
        return "reference"
    return "reference" if PLACE.search(secret) and "." in secret else ""


def directive(secret: str, place: Place) -> str:
    """Judge the word after a directive; a comment is none."""
    return "comment" if place.line.lstrip()[:1] in "#/;*" else password(secret, place)


def environment(secret: str, place: Place) -> str:
    """Judge a variable of an environment file by its name as well."""
    name = place.line[: place.start]
    if re.search(
        r"(?i)public|(^|_)pub_|_(id|url|uri|path|file|name|host|port|type|sock)\s*[=:]|^\s*#.*[^=]\s\S+\s*=|(^|\s)(OLD)?PWD=|SSH_AUTH|keyboard",
        name,
    ):
        return "named otherwise"
    if re.search(r"\s$", name) and not re.search(r"(?i)setenv|set\s", name):
        return "prose"
    return password(secret, place) or ("reference" if PLACE.search(secret) else "")


def assigned(secret: str, place: Place) -> str:
    """Judge a value by the name it is given to, where it stands, and its own form."""
    key = place.key or re.sub(r"\W", " ", place.line[: place.start])
    for why, is_so in (
        ("named otherwise", bool(place.key and NOT_SECRET_NAME.search(key))),
        ("sample file", bool(SAMPLE.search(place.path))),
        ("placeholder", filled(secret, key)),
        ("reference", bool(REFERENCE.search(secret) or PLACE.search(secret) or CALL.search(place.line[place.end :]))),
        ("expression", is_expression(secret, place)),
        ("prose", bool(re.search(r"\s", secret))),
    ):
        if is_so:
            return why
    about_password = re.search(r"(?i)pass|pwd", key) or not place.key
    return as_password(secret, place) if about_password else as_key(secret, place, key)


def hosted(secret: str, place: Place) -> str:
    """Judge what stands near the name of a forge: an id of an object is none unless something says that it is a secret."""
    near = place.line[max(0, place.start - 40) : place.end]
    said = re.search(r"(?i)token|secret|passw|[-_ ]key|\bpat\b|auth|credential|bearer", near)
    run = re.search(r"[0-9a-zA-Z]{35,40}\W*$", secret)
    return "digest" if run and not said and HEX.match(run[0].strip("\"'` ")) else assigned(secret, place)


def filled(secret: str, key: str) -> bool:
    """Return whether *secret* only holds the place of one."""
    plain = secret.lower()
    return bool(
        FILLED.search(secret) or plain in OPENAPI or len(set(plain)) < min(3, len(plain)) or plain == key.lower()
        or (COUNTING.search(secret) and len(secret) > 8) or any(known in secret for known in DOCUMENTED)
    )  # fmt: skip


def is_expression(secret: str, place: Place) -> bool:
    """Return whether an unquoted value is code, or a quoted one a pattern or markup."""
    quoted = place.line[place.start - 1 : place.start] in ("'", '"', "`") and place.start > 0
    if quoted:
        return bool(re.search(r"\\[dwsb]|\[\^|\(\?|</|/>|^[.#]\w+|^\^|\$$|::|->|=>|\{\w*\}|%[sd]|^\[.+\][+*]?$", secret))
    if CODE.search(place.path):
        return True
    return bool(re.search(r"[(){}\[\]<>|]|::|->|=>|^[+&*-]|^[a-z_]+(\.[A-Za-z_]+)+$|^=", secret))


def as_password(secret: str, place: Place) -> str:
    """Judge a password: weak ones are secrets too, words of code are not."""
    kinds = sum(bool(re.search(kind, secret)) for kind in ("[a-z]", "[A-Z]", "[0-9]", r"[^A-Za-z0-9]"))
    if len(secret) < 5:
        return "too short"
    settings = bool(SETTINGS.search(place.path)) and not LOCALE.search(place.path)
    if WORDS.match(secret) and not re.search(r"[0-9]", secret):
        weak = settings and re.match(r"^[A-Za-z]{6,}$", secret)
        return "" if weak and not re.match(r"(?i)^[a-z]*(password|passwd|secret|token|key)s?$", secret) else "word"
    if re.match(r"^_*[A-Za-z]+([-_.][A-Za-z]+)+[-_.]?[0-9]{0,2}$", secret):
        return "word"
    if kinds < 2 and not settings:
        return "word"
    return "word" if not quoted_or_settings(place, settings) and kinds < 3 else ""


def quoted_or_settings(place: Place, settings: bool) -> bool:
    """Return whether the value is a literal beyond doubt."""
    return settings or place.line[place.start - 1 : place.start] in ("'", '"', "`")


def as_key(secret: str, place: Place, key: str) -> str:
    """Judge a key or token: long enough, mixed, and no plain word."""
    strict = not (SETTINGS.search(place.path) or CODE.search(place.path))
    least = 8 if re.search(r"(?i)secret|pepper", key) else 12
    if len(secret) < least:
        return "too short"
    if WORDS.match(secret):
        return "word"
    if not (re.search("[0-9]", secret) and re.search("[A-Za-z]", secret)) and not re.search(
        r"[A-Z].*[a-z].*[^A-Za-z0-9]|[^\w.\s-]{2}", secret
    ):
        return "word"
    if UUID.match(secret) and re.search(r"(?i)id\b|credential", key):
        return "identifier"
    if re.search(r"(?i)licen[sc]e", key) and re.search(r"(^|[-._])[A-Za-z]?[a-z]{2,}([-._]|$)|-[0-9]+\.[0-9]", secret):
        return "identifier"  # the name of a licence
    return "word" if entropy(secret) < (3.3 if strict else 2.7) else ""


def url(secret: str, place: Place) -> str:
    """Judge the password of a URL: defaults, placeholders and references are none."""
    said, secret = secret, re.sub(r"^.*://[^/\s:@]*:([^/\s@]*)@.*$", r"\1", secret.strip("\"' "))
    before = re.search(r"://([^\s/:@]*):$", place.line[: place.start])
    user = before[1] if before else ""
    if (
        SAMPLE.search(place.path)
        or FILLED.search(secret)
        or secret.lower() in OPENAPI
        or len(set(secret)) < 3
        or re.match(r"^[0-9]{2,5}$", secret)
    ):
        return "placeholder"
    if re.search(r"@(www\.)?example\.(com|org|net)\b", said):
        return "placeholder"
    if REFERENCE.search(secret) or re.search(r"[{}$<>()\[\]]|^%[sd]", secret) or re.match(r"^[A-Z_]+$", secret):
        return "reference"
    if secret.lower() == user.lower() or re.search(
        r"@(www\.)?example\.(com|org|net)|@host\b|@hostname\b", place.line[place.end - 1 :]
    ):
        return "placeholder"
    return ""


def key_block(_: str, place: Place) -> str:
    """Judge the head of a private key: what follows must be one."""
    rest = place.line[place.end :].replace("\\n", "\n").replace("\\r", "")
    for line in [*rest.split("\n"), *place.lines[place.at + 1 : place.at + 9]][:12]:
        text = re.sub(r"^[\s#*>|\"'/+-]*(\(\w #)?", "", line)
        if line.startswith("-----") or FILLED.search(line):
            break
        if KEY_BODY.search(text):
            return ""
        if len(text) > 12 and not re.match(r"[\w-]+: ", text):
            break  # a key begins right after its head
    return "no key follows"


def following(check: str, place: Place) -> tuple[str, Place] | None:
    """Return the secret that stands below the head that was matched, and its own place."""
    pattern, count = FOLLOWING[check]
    text = "\n".join([place.line[place.start :], *place.lines[place.at + 1 : place.at + count]])
    said = pattern.match(text)
    if said is None:
        return None
    start = said.start(1)
    row, column = text.count("\n", 0, start), start - text.rfind("\n", 0, start) - 1
    column += 0 if row else place.start
    return said[1], place._replace(at=place.at + row, start=column, end=column + len(said[1]))


def whole(check: str, secret: str, place: Place) -> tuple[int, str]:
    """Return what a fingerprint is of, and its line: of a head the secret below it, of a key also its body, since the first
    line of every key is the same."""
    if check in FOLLOWING and (found := following(check, place)):
        return found[1].at, found[0]
    return place.at, bodied(check, secret, place)


def bodied(check: str, secret: str, place: Place) -> str:
    """Return *secret*, of a key or of copied rows with what follows."""
    if check not in ("key", "copy"):
        return secret
    rest = place.line[place.end :].replace("\\n", "\n").replace("\\r", "")
    body = []
    for line in [*rest.split("\n"), *place.lines[place.at + 1 : place.at + 1 + KEY_LINES]]:
        text = re.split(r"-----?\s?END\b|^Private-MAC|^\\\.$", line)
        body.append(text[0] if check == "copy" else re.sub(r"[^A-Za-z0-9+/=]", "", text[0]))
        if len(text) > 1:
            break
    return "\n".join([secret, *filter(None, body)])


def jwk(secret: str, place: Place) -> str:
    """Judge the private half of a JSON Web Key."""
    near = "\n".join(place.lines[max(0, place.at - 12) : place.at + 12])
    return token(secret, place) if '"kty"' in near else "no JSON Web Key"


def pair(secret: str, place: Place) -> str:
    """Judge what a registry calls auth: user and password in base64, or a token."""
    if '"auth"' not in place.line:
        return token(secret, place)
    try:
        said = base64.b64decode(secret + "=" * (-len(secret) % 4), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return "no credentials"
    return password(said.partition(":")[2] or "x", place) if ":" in said else "no credentials"


def row(secret: str, place: Place) -> str:
    """Judge a row of an SQL dump: one of a table with a password in it."""
    before = "\n".join(place.lines[max(0, place.at - 200) : place.at])
    head = before[before.lower().rfind("insert into") :] if "insert into" in before.lower() else ""
    said = re.search(r"(?i)^insert into[^()]*\([^()]*\b(user_)?pass(word|wd)?\b", head)
    return password(secret, place) if said and ";\n" not in head else "no row with a password"


def table(secret: str, place: Place) -> str:
    """Judge a row without names of columns: one of a table that was made with a password in it."""
    before = place.lines[max(0, place.at - TABLE) : place.at]
    head = re.compile(rf"(?i)^\s*create table (if not exists )?[`\"\[]?{re.escape(place.key)}\b")
    made = next((at for at in range(len(before) - 1, -1, -1) if head.search(before[at])), None)
    if made is None:
        return "no row with a password"
    columns = itertools.takewhile(lambda line: ";" not in line, before[made:])
    said = any(re.search(r"(?i)^\s*[`\"\[]?\w{0,20}(password|passwd|pwd|user_pass|pass)\b", line) for line in columns)
    return password(secret, place) if said else "no row with a password"


def copy(_: str, place: Place) -> str:
    """Judge the head of copied rows: there must be some."""
    following = place.lines[place.at + 1 : place.at + 2]
    return "" if following and following[0].strip() not in ("", "\\.") else "no row with a password"


def subversion(secret: str, place: Place) -> str:
    """Judge a value of Subversion's credentials: the password is what follows its name and its length."""
    before = place.lines[max(0, place.at - 2) : place.at]
    said = len(before) == 2 and before[0].strip() == "password" and re.match(r"V \d+$", before[1])
    return password(secret, place) if said else "no password"


def literal(secret: str, place: Place) -> str:
    """Judge a literal that stands where a call takes a password: weak ones count."""
    if SAMPLE.search(place.path) or filled(secret, place.key):
        return "placeholder"
    if REFERENCE.search(secret) or PLACE.search(secret) or CALL.search(place.line[place.end + 1 :]):
        return "reference"
    return "prose" if re.search(r"\s", secret) else ""


def answer(secret: str, place: Place) -> str:
    """Judge what a script types: a password where it waited for the prompt of one."""
    near = "\n".join([*place.lines[max(0, place.at - 2) : place.at], place.line[: place.start]])
    return literal(secret, place) if re.search(r"(?i)expect.{0,80}pass", near) else "no password"


def call(_: str, place: Place) -> str:
    """Judge the head of a call whose literals stand below."""
    found = following("call", place)
    return assigned(*found) if found else "no password"


def value(_: str, place: Place) -> str:
    """Judge a name: its value stands after it."""
    found = following("value", place)
    return assigned(*found) if found else "no password"


def inline(_: str, place: Place) -> str:
    """Judge the head of a block with a user and a password."""
    found = following("inline", place)
    return password(*found) if found else "no password"


def account(secret: str, place: Place) -> str:
    """Judge the second of the two lines of a file that holds a user and a password, and nothing else."""
    lines = [line.strip() for line in place.lines if line.strip()]
    if len(lines) != 2 or secret != lines[1] or place.line.strip() != secret:
        return "no account"
    if not re.fullmatch(r"[\w.@+\\-]{1,64}", lines[0]) or lines[0] == secret or is_expression(secret, place):
        return "no account"
    weak = WORDS.match(secret) and not re.search("[0-9]", secret) and not re.search(r"(?i)vpn|user-?pass", place.path)
    return "word" if weak else password(secret, place)


def store(_secret: str, _place: Place) -> str:
    """A store of keys is one by its bytes alone."""
    return ""


def phrase(secret: str, _: Place) -> str:
    """Judge the words of a wallet: those of documentation repeat themselves."""
    words = secret.split()
    return "placeholder" if len(set(words)) < 0.8 * len(words) or "abandon" in words[:2] else ""


def session(secret: str, place: Place) -> str:
    """Judge the option `secret`: that of a session."""
    near = " ".join(place.lines[max(0, place.at - 5) : place.at + 1])
    return password(secret, place) if re.search(r"(?i)session\s*\(|cookie-?parser|express-session", near) else "no session"


def public(_secret: str, _place: Place) -> str:
    """A name that is no secret by itself; the key beside it is found by its own rule."""
    return "public identifier"


def opaque(secret: str, place: Place) -> str:
    """Judge a string of high entropy: a secret where it is said to be one."""
    said = SAID_SECRET.search(place.line[: place.start][-80:])
    if not said:
        return "opaque, not said to be a secret"
    key = re.sub(r"\W+$", "", place.line[: place.start][-80:]).rsplit(None, 1)[-1:]
    return assigned(secret, place._replace(key=key[0] if key else said[1]))


def alone(secret: str, place: Place) -> str:
    """Judge an opaque token that stands alone: mixed as tokens are, no digest, not one line of many such."""
    around = [place.lines[n].strip() for n in (place.at - 1, place.at + 1) if 0 <= n < len(place.lines)]
    if any(len(line) >= 40 and " " not in line for line in around) or len(place.lines) > 2000 or SAMPLE.search(place.path):
        return "one of many"
    if any(line.startswith("-----BEGIN") for line in place.lines[max(0, place.at - 60) : place.at]):
        return "inside a key or certificate"
    mixed = all(re.search(kind, secret) for kind in ("[a-z]", "[A-Z]", "[0-9].*[0-9]"))
    if (
        HEX.match(secret)
        or UUID.match(secret)
        or not mixed
        or WORDS.match(secret)
        or CAMEL.match(secret)
        or PLACE.search(secret)
        or re.search(r"^--|^sha\d+-|[\w-]+@|\.\w+\(|://", secret)
        or re.search(
            r"^[A-Za-z_]\w*=[^=]|^[\w.-]+==[0-9]|(^|[=/])\.{1,2}/", secret
        )  # an assignment, which its own rules judge; a path
    ):
        return "no token"
    if is_text(secret):
        return "encoded text"
    return "no token" if entropy(secret) < 3.8 else token(secret, place)


def is_text(secret: str) -> bool:
    """Return whether *secret* is base64 of plain text, which is looked at where encodings are undone."""
    try:
        return base64.b64decode(secret, validate=True).decode("ascii").isprintable()
    except (binascii.Error, UnicodeDecodeError):
        return False


def command(secret: str, place: Place) -> str:
    """Judge what follows an option of a command; a plain word after it is mostly prose."""
    prose = re.search(r"(?i)--(http-)?passw(or)?d\s$", place.line[: place.start]) and re.match(r"[a-z]+\W?$", secret)
    return "prose" if prose else url(secret, place)


CHECKS: dict[str, Callable[[str, Place], str]] = {
    "token": token, "password": password, "directive": directive, "environment": environment, "assigned": assigned, "url": url,
    "key": key_block, "jwk": jwk, "pair": pair, "public": public, "opaque": opaque, "alone": alone, "row": row, "session": session,
    "table": table, "command": command, "copy": copy, "subversion": subversion,
    "literal": literal, "answer": answer, "call": call, "value": value, "inline": inline, "account": account, "phrase": phrase, "store": store,
    "hosted": hosted,
}  # fmt: skip
