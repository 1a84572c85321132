"""Chunks that a zarr store lacks: zarr gives their pixels the array's fill value, and says nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

__all__ = ["open_watched"]


class _WatchedStore(WrapperStore[Store]):
    """A store that keeps in mind what it was asked for, and whether that was there."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.there: dict[str, bool] = {}

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        value = await super().get(key, prototype, byte_range)
        self.there[key] = value is not None
        return value


def open_watched(place: Path | Store, component: str) -> tuple[zarr.Array[Any], Callable[[], tuple[str, ...]]]:
    """Open an array for reading; return with it what notes how many chunks were missing, of those read so far.

    No more is asked of the store than reading does. Of a sharded array the shards are counted. A chunk may be missing
    since it was lost, or since its writer leaves out what is nothing but fill value.
    """
    store = _WatchedStore(LocalStore(place, read_only=True) if isinstance(place, Path) else place)
    array = zarr.open_array(store, path=component, mode="r")
    store.there.clear()  # so far these are metadata

    def notes() -> tuple[str, ...]:
        missing = list(store.there.values()).count(False)
        if not missing:
            return ()
        seen_as = f"filled with {array.fill_value}" if array.fill_value else "black"
        return (f"{missing} of {len(store.there)} chunks missing in the store: {seen_as} there",)

    return array, notes
