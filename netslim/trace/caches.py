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
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torch import nn

from netslim.layouts.lines import is_user_file


class _Cached(Protocol):
    def cache_info(self) -> functools._CacheInfo: ...
    def cache_clear(self) -> None: ...


class _Here(threading.local):
    known: list[_Cached] | None = None


_here = _Here()
_STDLIB = sysconfig.get_paths()["stdlib"]
_KIND = functools._lru_cache_wrapper


@contextlib.contextmanager
def known_caches(model: nn.Module) -> Iterator[None]:
    """While open, in this thread, the caches that there are now are known."""
    before = _here.known
    _here.known = list({id(found): found for found in (*_of_process(len(sys.modules)), *_beside(model))}.values())
    try:
        yield
    finally:
        _here.known = before


def _of_process(_modules: int) -> list[_Cached]:
    """Every cached function of a module that is neither torch's, netslim's nor Python's own.

    Looking through all objects takes long: it is done again when modules have been imported.
    """
    found = _known.get(_modules)
    if found is None:
        found = [weakref.ref(o) for o in _objects() if type(o) is _KIND and _is_users(o.__module__)]
        _known.clear()
        _known[_modules] = found
    return [o for ref in found if (o := ref()) is not None]


def _objects() -> list[object]:
    """All that Python's collector knows, what was put aside from it included."""
    aside = gc.get_freeze_count()
    if aside:
        gc.unfreeze()
    try:
        return gc.get_objects()
    finally:
        if aside:
            gc.freeze()


_known: dict[int, list[weakref.ref[Any]]] = {}
"""By the number of modules that there were: one entry."""


def _beside(model: nn.Module) -> Iterator[_Cached]:
    """Those of the files that a model's classes are in, and of its own attributes: both may be new."""
    names = {type(module).__module__ for module in model.modules()}
    files = [vars(sys.modules[name]) for name in names if name in sys.modules and _is_users(name)]
    for table in (*files, *map(vars, model.modules())):
        yield from (value for value in table.values() if type(value) is _KIND)


def _is_users(module: str | None) -> bool:
    file = getattr(sys.modules.get(module or ""), "__file__", None) or "<"
    return is_user_file(file) and (not file.startswith(_STDLIB) or "site-packages" in file)


@contextlib.contextmanager
def emptied() -> Iterator[Callable[[], bool]]:
    """While open, whether a cache has given what it held before can be asked; what was called is emptied at the end."""
    caches = [(cache, cache.cache_info()) for cache in _here.known or ()]
    try:
        yield lambda: any(then.currsize and cache.cache_info().hits > then.hits for cache, then in caches)
    finally:
        for cache, then in caches:
            if cache.cache_info()[:2] != then[:2]:
                cache.cache_clear()
