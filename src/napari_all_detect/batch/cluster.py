"""A Dask cluster, an existing one or one started here."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from typing import Any

from napari_all_detect.cores import n_cores
from napari_all_detect.errors import MissingDependencyError, OutputError
from napari_all_detect.params import ClusterParams
from napari_all_detect.shielding import shielded

__all__ = ["PACKAGE", "connected"]

PACKAGE = "napari-all-detect"
SHOWN = 3
"""Processes of a cluster that an error names; of the others it gives the number."""

CONNECT_S = 10
CLOSE_S = 1
END_S = 0.2
"""For a worker to end by itself, before it is killed."""

AGAIN = "try again, or without --workers"

LOST = 1
"""Workers that a unit may lose before it has to wait for the end, in a cluster started here."""


@contextmanager
def connected(cluster: ClusterParams) -> Iterator[Any]:
    """Lend a client of the cluster; one that was started here ends with it.

    Raises
    ------
    OutputError
        If no scheduler answers, or none can be started.
    MissingDependencyError
        If the scheduler or a worker lacks this package, or has another version of it.
    """
    from distributed import Client

    with ExitStack() as stack:
        place: Any = cluster.scheduler
        if place is None:
            place = shielded(partial(_local, cluster.workers))
            stack.callback(_close, place)
        try:
            client = Client(place, timeout=CONNECT_S)
            stack.callback(_disconnect, client)
            _check_installed(client)
        except (OSError, ValueError) as error:
            where = cluster.scheduler or "this machine"
            advice = "check the address" if cluster.scheduler else AGAIN
            raise OutputError(f"no Dask scheduler answers at {where} ({error}); {advice}") from error
        yield client


def _check_installed(client: Any) -> None:
    """Ask what each process has installed, by the standard library: what lacks this package can't even read a task."""
    here, found = version(PACKAGE), client.run(version, PACKAGE, on_error="return")
    try:
        found["the scheduler"] = client.run_on_scheduler(version, PACKAGE)
    except PackageNotFoundError as error:
        found["the scheduler"] = error
    others = [
        f"{where} has {there if isinstance(there, str) else 'none'}"
        for where, there in found.items()
        if isinstance(there, (str, PackageNotFoundError)) and there != here
    ]
    if others:
        more = f", and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        raise MissingDependencyError(
            f"{PACKAGE} {here} is needed on a cluster's scheduler and all workers, as here; {', '.join(others[:SHOWN])}"
            f"{more}; install it there"
        )


# An interrupted run ends now: what is not closed by then ends with this process.
def _disconnect(client: Any) -> None:
    with suppress(OSError):
        client.close(timeout=CLOSE_S)


def _close(local: Any) -> None:
    with suppress(OSError):
        local.sync(_end_workers, local, callback_timeout=CLOSE_S)
        local.close(timeout=CLOSE_S)


async def _end_workers(local: Any) -> None:
    """End worker processes whatever they are doing; closing the cluster would let them finish that first."""
    await asyncio.gather(*(nanny.close(timeout=END_S) for nanny in local.workers.values()))


def _local(workers: int) -> Any:
    """Start a cluster on this machine, whose workers share its cores."""
    import dask
    from distributed import LocalCluster

    threads = str(max(1, n_cores() // workers))
    try:
        get_context("spawn").Lock()  # without /dev/shm there is none, and a cluster may wait for its workers for ever
        with dask.config.set({"distributed.scheduler.allowed-failures": LOST}):
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # any port: another run on this machine may have the usual one
                silence_logs=logging.CRITICAL,
                env=dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "ALL_DETECT_THREADS"), threads),
            )
    except (OSError, RuntimeError) as error:  # Dask's, where one of its own processes does not start
        raise OutputError(f"workers can't be started on this machine ({error}); {AGAIN}") from error
