"""Where fuzzing starts: small texts that use every feature of the language, and its tokens.

One input is one text. A line `#file` starts a further file: the first part is main.conf, the next 1.conf, 2.conf ...
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

import keepalived_py.config
from keepalived_py.config.schema import Section

NEXT_FILE = b"#file\n"

_INSTANCE = "interface eth0\nvirtual_router_id 51\nvirtual_ipaddress {\n10.0.0.100/24 dev eth0\n}\n"
_SERVER = "real_server 192.0.2.1 80 {\nweight 1\n%s}\n"
_TCP = "TCP_CHECK {\nconnect_timeout 3\n}\n"
_HTTP = 'HTTP_GET {\nurl {\npath /\nstatus_code 200\nregex "a\\x41\\101\\cA\\n"\n}\n}\n'
_MISC = 'MISC_CHECK {\nmisc_path "/bin/x a"\nmisc_timeout 3\nuser root\n}\n'
_ADDRESSES = (
    "virtual_ipaddress_excluded {\n10.0.0.2/8 brd + scope link label eth0:1 home\n"
    "10.0.0.3 peer 10.0.0.4 preferred_lft 10\nfe80::1/64 -nodad dev eth0\n}\n"
)
_AUTH = "authentication {\nauth_type PASS\nauth_pass x\n}\n"
_TRACK = "track_interface {\nlo weight -2 reverse\n}\ntrack_script {\nchk weight 5\n}\n"
_UNICAST = "unicast_src_ip 192.0.2.1\nunicast_peer {\n192.0.2.2\n192.0.2.3 min_ttl 1 max_ttl 9\n}\n"

SEEDS = (
    "",
    "global_defs {\n  router_id lb1 # comment\n  script_user nobody ! comment\n}\n",
    f"vrrp_instance VI_1 {{\n{_INSTANCE}}}\n",
    f"vrrp_instance VI_1\n{{\nstate MASTER\npriority 150\nadvert_int 0.5\n{_INSTANCE}}}\n",
    "vrrp_sync_group G { group { VI_1 VI_2 } }\n",
    "vrrp_script chk { script \"/bin/true 'a b'\" root\ninterval 2\nweight -20\n}\n",
    f"virtual_server 10.0.0.1 80 {{\nlb_algo rr\nlb_kind NAT\nprotocol TCP\n{_SERVER % _TCP}}}\n",
    f"virtual_server 10.0.0.1 80 {{\n{_SERVER % _HTTP}}}\n",
    f"virtual_server fwmark 1 {{\n{_SERVER % _MISC}sorry_server 10.9.9.9\nquorum 2\npersistence_timeout 1\n}}\n",
    f"vrrp_instance VI_1 {{\nversion 2\n{_INSTANCE}{_ADDRESSES}{_AUTH}{_TRACK}{_UNICAST}}}\n",
    # includes
    "include 1.conf\nglobal_defs {\ninclude 2.conf\n}\n#file\n$A=1\n#file\nrouter_id $A\n",
    "includea {1,2}.conf\nincludew *.cfg\nincluder /etc/1.conf\ninclude [12].conf\n#file\nx\n#file\n}\n",
    "global_defs {\ninclude_check +match -wildcard_match\n}\nincludem 9.conf\nincludeb {8,9}.conf\n",
    "$F=1.conf\n@me include $F\n@^me include ${F}\n#file\ninclude main.conf\n",
    # conditions
    "@me a b\n@^me c\n@other d\n@^other e\n@me\n@me @me f\nglobal_defs {\n@me }\n",
    # definitions
    "$A=1\n$B=${A}2\n$A=3\nx $A $B,${B}y ($B) $UNDEF ${UNDEF}\n",
    "$A=$B\n$B=$A\nx $A\n$C=${C}${C}\ny ${C}\n",
    "$M= \\\n a { \\\n  b $A \\\n\n$A=1\n$M\nx $M\n$M y\n",
    "$M=vrrp_instance V$I { \\\ninterface eth0 \\\nvirtual_router_id $I \\\n}\n~SEQ(I, 2) $M\n",
    'x "${_PWD}" ${_INSTANCE} "${_HASH}" "${_BANG}" ${_ENV HOME} $_INSTANCE\n',
    "x ${_RANDOM} ${_RANDOM 5} ${_RANDOM 5 6} ${_RANDOM 6 5} $_RANDOM\n",
    # repetition
    "~SEQ(i, 3) a $i\n~SEQ(i, 0) b $i\n~SEQ(i, -2) c $i\n~SEQ(i, 1, 2, 9) d ${i}\n~SEQx(h, 0x8, 020) e $h\n",
    "~SEQ(i, 2) ~SEQ(j, $i) f $i $j\n~SEQ(i, 1, 0, 3) g\n~SEQ(1, 2) h\n~SEQx(i, -1) k\n",
    "~LST(v, a, b) x $v\n~LST({v,w}, {1,2}, {3}, 4) y $v $w\n~LST(v, {1,2}) z\n~LST(v) z\n",
    "global_defs {\nnotification_email {\n~LST(n, a, b) $n@example.org\n}\n}\n",
    # words, quotes, escapes, braces, line ends
    'x a"b c"d "" "# { }" \\# \\! \\n \'q r\'\nx "open\n"{"\n"}"\ny \\\n',
    'x{y{z}}\n} {\n{ { a } }\nq { "a } b" }\nempty {}\n',
    "a\r\nb\r\r\n\tc\vd\fe \n\v\n\f\n",
    "x " + "y" * 1100 + "\n$A=" + "z" * 600 + "\nx ${A}${A}\n",
    "vrrp_instance VI_1 {\nnotify_master \"/bin/x a\" root root\nnotify '/bin/y {'\ntrack_script {\nchk weight 5\n}\n",
)

_WORDS = r"""
{ } " ' # ! \\ \\# \\! @ @me @^me @^x $ ${ $A $A= ${A} $M= $M ~ ( ) , = + - / % * ? [ ] [1-2] .. /.. : <
~SEQ(i,3) ~SEQx(i,3) ~LST(v,a,b) ~SEQ(i,1,2,9) ~LST({v,w},{1,2}) ~SEQ( ~LST( $i ${v}
${_PWD} ${_INSTANCE} ${_RANDOM} ${_HASH} ${_BANG} $_PWD ${_ENV
include includer includem includew includeb includea 1.conf {1,2}.conf include_check read +match -brace_match
0 1 -1 255 256 65535 65536 4294967295 4294967296 0x7f 010 0.000001 1.5 1e9 99999999999999999999 on off
10.0.0.1 10.0.0.1/24 10.0.0.1/33 fe80::1 2001:db8::1/64 ::ffff:1.2.3.4 eth0 dev scope brd label src weight
"""
_UNUSUAL = (
    " ",
    "\n",
    '""',
    " \\\n",
    "#file\n",
    "include *\n",
    "${_ENV HOME}",
    "${_RANDOM 9 1}",
    "\t",
    "\v",
    "\f",
    "\r",
)
_FOREIGN = ("\x85", "\xa0", "\u2028", "\u0663", "\x1c", "\xb2", "\ufeff")
"""Blanks and digits of Unicode, which are neither here."""

TOKENS = tuple(token.encode() for token in (*_WORDS.split(), *_UNUSUAL, *_FOREIGN))

BAD_BYTES = (b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\x80")

_LONG = ("9" * 900, "x" * 900, "1 2 3 4 5 6 7 8")
_EMPTY = ("", '""', '"" ""', '" "', 'x "" ""', '1 ""')
_SIGNS = ("-", "+", ".", "/", ":", ",", "@", "\\", "'", "x '", "x \\", "%s {0}", "'\\x00' '\\x00'", "!", "*")
_NUMBERS = ("-1", "-0", "1e9", "0x", "08", "1.", "nan", "inf", "10.0.0.1/99", "fe80::1%eth0", "\u0663", "\xb2")
NASTY = (*_LONG, *_EMPTY, *_SIGNS, *_NUMBERS, "\udcff", "x \udcff")
"""Words that converters forget."""


@cache
def sections() -> tuple[Section, ...]:
    """Every table of the package, by name."""
    found: dict[str, Section] = {}
    for module in pkgutil.iter_modules(keepalived_py.config.__path__, "keepalived_py.config."):
        values = vars(importlib.import_module(module.name)).values()
        found |= {value.name: value for value in values if isinstance(value, Section)}
    return tuple(found[name] for name in sorted(found))


def keywords() -> tuple[bytes, ...]:
    """Every keyword and block name of every table, sorted."""
    found = {word for each in sections() for word in (*each.table, each.name)}
    return tuple(word.encode() for word in sorted(found))


def filled(section: Section, words: str) -> str:
    """A block of every keyword of `section`, each as a line and as a block of `words`, in its outer blocks."""
    text = "".join(f"{keyword} {words}\n{keyword} {words} {{\n{words}\n}}\n" for keyword in section.table)
    name = section.name
    for _ in range(5):
        if not name.isidentifier():
            break  # the root, which is a table too: "(root)"
        text = f"{name} 10.0.0.1 80 {{\n{text}}}\n"
        name = next((outer.name for outer in sections() if name in outer.table and outer.name != name), "")
    return text


def seeds(folder: Path) -> list[bytes]:
    """The small texts, and the samples below `folder`."""
    samples = sorted(folder.rglob("*.conf"))
    return [text.encode() for text in SEEDS] + [path.read_bytes() for path in samples]
