"""Patterns of url checks, in PCRE2 as with keepalived, so that they mean what they meant (checker-behaviour.md 4).

The library comes with the system (libpcre2-8). Python packages of it hold the interpreter lock while they match and
offer no limits; through ctypes the lock is free, so a search in a thread stalls nobody, and every call is limited.
"""

from __future__ import annotations

import ctypes
import time
import weakref
from collections.abc import Iterable
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from functools import cache, lru_cache

LIBRARY = "libpcre2-8.so.0"
OPTIONS = {
    "allow_empty_class": 0x1,
    "alt_bsux": 0x2,
    "auto_callout": 0,  # nobody listens to callouts
    "caseless": 0x8,
    "dollar_endonly": 0x10,
    "dotall": 0x20,
    "dupnames": 0x40,
    "extended": 0x80,
    "firstline": 0,  # a bound of `search`: the library counts lines from where a call begins
    "match_unset_backref": 0x200,
    "multiline": 0x400,
    "never_ucp": 0x800,
    "never_utf": 0x1000,
    "no_auto_capture": 0x2000,
    "no_auto_possess": 0x4000,
    "no_dotstar_anchor": 0x8000,
    "no_start_optimize": 0x10000,
    "ucp": 0x20000,
    "ungreedy": 0x40000,
    "utf": 0x80000,
    "never_backslash_c": 0x100000,
    "alt_circumflex": 0x200000,
    "alt_verbnames": 0x400000,
    "use_offset_limit": 0x800000,
}
"""Words of regex_options and their bits (pcre2.h)."""
UTF, USE_OFFSET_LIMIT, NO_UTF_CHECK = OPTIONS["utf"], OPTIONS["use_offset_limit"], 0x40000000
NO_MATCH, MATCH_LIMIT, DEPTH_LIMIT, HEAP_LIMIT = -1, -47, -53, -63
INFO_ALL_OPTIONS = 0
STEPS = 1_000_000
"""Backtracking steps from one place of the text: about 10 ms."""
HEAP_KIB = 16384
WINDOW = 64
"""Places tried between two looks at the clock."""


class PatternError(Exception):
    """The pattern cannot be compiled, or there is no library to do it."""


class SearchGivenUp(Exception):
    """Looking for the pattern takes too many steps, too much memory or too long."""


@cache
def _library() -> ctypes.CDLL:
    """Raises PatternError."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        raise PatternError(f"patterns need {LIBRARY}, which is not installed") from None
    for name, result, *arguments in (
        (
            "compile",
            c_void_p,
            c_char_p,
            c_size_t,
            c_uint32,
            POINTER(c_int),
            POINTER(c_size_t),
            c_void_p,
        ),
        ("code_free", None, c_void_p),
        ("pattern_info", c_int, c_void_p, c_uint32, c_void_p),
        ("get_error_message", c_int, c_int, c_char_p, c_size_t),
        ("match_context_create", c_void_p, c_void_p),
        ("match_context_free", None, c_void_p),
        ("set_match_limit", c_int, c_void_p, c_uint32),
        ("set_heap_limit", c_int, c_void_p, c_uint32),
        ("set_offset_limit", c_int, c_void_p, c_size_t),
        ("match_data_create", c_void_p, c_uint32, c_void_p),
        ("match_data_free", None, c_void_p),
        ("match", c_int, c_void_p, c_char_p, c_size_t, c_size_t, c_uint32, c_void_p, c_void_p),
    ):
        function = getattr(library, f"pcre2_{name}_8")
        function.restype, function.argtypes = result, arguments
    return library


def _message(code: int) -> str:
    buffer = ctypes.create_string_buffer(256)
    _library().pcre2_get_error_message_8(code, buffer, len(buffer))
    return buffer.value.decode("ascii", "replace")


class Pattern:
    """A compiled pattern. Searches may run in several threads at once."""

    def __init__(self, text: str, options: Iterable[str] = ()) -> None:
        """Raises PatternError."""
        library = _library()
        names = set(options)
        bits = USE_OFFSET_LIMIT
        for name in names:
            bits |= OPTIONS[name]
        raw = text.encode("utf-8", "surrogateescape")
        code, place = c_int(), c_size_t()
        self._code = library.pcre2_compile_8(raw, len(raw), bits, byref(code), byref(place), None)
        if not self._code:
            raise PatternError(f"{_message(code.value)} at its byte {place.value}")
        # not at exit: a search of a thread may still be running then
        weakref.finalize(self, library.pcre2_code_free_8, self._code).atexit = False
        used = c_uint32()
        library.pcre2_pattern_info_8(self._code, INFO_ALL_OPTIONS, byref(used))
        self._utf = bool(used.value & UTF)
        self._first_line = "firstline" in names

    def search(self, text: bytes, least: int = 0, most: int | None = None, until: float | None = None) -> bool:
        """Whether a match begins at bytes `least` to `most` of `text`; `until` on the monotonic clock.

        Raises SearchGivenUp.
        """
        last = len(text) if most is None else min(most, len(text))
        if self._first_line:
            end = text.find(b"\n", least)
            last = last if end < 0 else min(last, end)
        library = _library()
        context = library.pcre2_match_context_create_8(None)
        data = library.pcre2_match_data_create_8(1, None)
        try:
            library.pcre2_set_match_limit_8(context, STEPS)
            library.pcre2_set_heap_limit_8(context, HEAP_KIB)
            return self._search(text, least, last, until, context, data)
        finally:
            library.pcre2_match_data_free_8(data)
            library.pcre2_match_context_free_8(context)

    def _search(self, text: bytes, first: int, last: int, until: float | None, context: int, data: int) -> bool:
        library = _library()
        options = 0
        while first <= last:
            if until is not None and time.monotonic() >= until:
                raise SearchGivenUp("looking for the pattern takes too long")
            end = min(first + WINDOW - 1, last)
            library.pcre2_set_offset_limit_8(context, end)
            found = library.pcre2_match_8(self._code, text, len(text), first, options, data, context)
            if found >= 0:
                return True
            if found in (MATCH_LIMIT, DEPTH_LIMIT, HEAP_LIMIT):
                raise SearchGivenUp("looking for the pattern takes too many steps")
            if found != NO_MATCH:
                return False  # text that is not UTF-8 matches nothing
            options = NO_UTF_CHECK  # the first call looked at all of it
            first = end + 1
            while self._utf and first <= last < len(text) and text[first] & 0xC0 == 0x80:
                first += 1  # calls begin between characters
        return False


@lru_cache(maxsize=1024)
def compiled(text: str, options: tuple[str, ...]) -> Pattern:
    """The pattern, made once. Raises PatternError."""
    return Pattern(text, options)
