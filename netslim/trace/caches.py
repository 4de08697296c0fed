"""Caches that a model's Python keeps outside of it: `functools.lru_cache` around a function of sizes, say.

While a model is followed they would take in traced numbers and tensors without values, and give them to whoever asks
next. What was called meanwhile is emptied afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from netslim.layouts.lines import is_user_file


class _Cached(Protocol):
    def cache_info(self) -> functools._CacheInfo: ...
    def cache_clear(self) -> None: ...


class _Here(threading.local):
    known: list[_Cached] | None = None


_here = _Here()
_STDLIB = sysconfig.get_paths()["stdlib"]


@contextlib.contextmanager
def known_caches() -> Iterator[None]:
    """While open, in this thread, the caches that there are now are looked for once."""
    before = _here.known
    _here.known = _all() if before is None else before
    try:
        yield
    finally:
        _here.known = before


def _all() -> list[_Cached]:
    """Every cached function of a module that is neither torch's, netslim's nor Python's own."""
    kind = functools._lru_cache_wrapper
    return [found for found in gc.get_objects() if type(found) is kind and _is_users(found.__module__)]


def _is_users(module: str | None) -> bool:
    file = getattr(sys.modules.get(module or ""), "__file__", None) or "<"
    return is_user_file(file) and (not file.startswith(_STDLIB) or "site-packages" in file)


@contextlib.contextmanager
def emptied() -> Iterator[Callable[[], bool]]:
    """While open, whether a cache has given what it held before can be asked; what was called is emptied at the end."""
    with known_caches():
        caches = [(cache, cache.cache_info()) for cache in _here.known or ()]
    try:
        yield lambda: any(then.currsize and cache.cache_info().hits > then.hits for cache, then in caches)
    finally:
        for cache, then in caches:
            if cache.cache_info()[:2] != then[:2]:
                cache.cache_clear()
