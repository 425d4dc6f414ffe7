"""The command `carbonaccount`: run the suite, make tokens, check feeds and results."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import grpc
import grpc.aio
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from services.activity.feeds import RefusedLine, feed_path, map_feed, read_mapping
from services.calculation.verify_command import verify_result
from services.launch import key_commands
from services.launch.clients import Clients
from services.launch.faults import clear_faults
from services.launch.layout import SERVICES, Layout, this_checkout
from services.launch.main_job import TRIPS_MAPPING, Progress, Report, run_main_job
from services.launch.summary import print_summary, read_report, write_report
from services.launch.supervisor import Supervisor

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
_WATCH_S = 0.2
JOB_ATTEMPTS_MAX = 20


class _Stopped(Exception):
    """A signal asked the supervisor to end."""


@app.command()
def run(
    once: Annotated[bool, typer.Option(help="end after the main job")] = False,
    workers: Annotated[int, typer.Option(help="processes per service", min=1, max=16)] = 1,
) -> None:
    """Start everything, do the main job the first time, and keep serving until Ctrl-C."""
    console = Console()
    with clear_faults(console):
        _run(this_checkout(), console, once=once, workers=workers)


def _run(layout: Layout, console: Console, *, once: bool, workers: int) -> None:
    supervisor = Supervisor(layout, workers=workers)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        with console.status("starting PostgreSQL and the services"):
            supervisor.start()
        report = read_report(layout.report)
        if report is None:
            report = asyncio.run(_main_job(layout, supervisor, console))
            write_report(report, layout.report)
        else:
            console.print("The main job was done before; nothing is repeated.")
        print_summary(report, console, layout.report)
        if not once:
            listening = ", ".join(f"{name} {layout.listen(name)}" for name in SERVICES)
            console.print(f"Serving: {listening}. Ctrl-C ends it.")
            while True:
                supervisor.watch()
                time.sleep(_WATCH_S)
    except _Stopped:
        console.print("stopping")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        supervisor.stop()


@app.command("check-feed")
def check_feed(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV, may be gzip")],
    mapping: Annotated[str, typer.Option(help="a mapping of the catalogue")] = TRIPS_MAPPING,
    show: Annotated[int, typer.Option(help="refused lines to print", min=0)] = 10,
) -> None:
    """Read a partner's file by its mapping and say line by line what would be refused."""
    path = feed_path(mapping)
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("citibike-*.toml")))
        print(f"mapping is {mapping!r}; there are {known}", file=sys.stderr)
        raise typer.Exit(2)
    counts: Counter[str] = Counter()
    for line in map_feed(read_mapping(path), file):
        if isinstance(line, RefusedLine):
            counts[f"refused {line.reason}"] += 1
            if counts[f"refused {line.reason}"] <= show:
                print(line.message)
        else:
            counts["mapped"] += 1
    print(", ".join(f"{count} {what}" for what, count in counts.items()) or "no line")


app.command("verify")(verify_result)
app.command("token")(key_commands.token)
app.command("bank-ticket")(key_commands.bank_ticket)
app.add_typer(key_commands.keys, name="keys")
app.add_typer(key_commands.wrapping_keys, name="wrapping-keys")


async def _main_job(layout: Layout, supervisor: Supervisor, console: Console) -> Report:
    clients = Clients(layout)
    watching = asyncio.create_task(_watch(supervisor))
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn())
    try:
        with Bars(*columns, TimeElapsedColumn(), console=console) as bars:
            tasks: dict[str, TaskID] = {}

            def progress(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done, total=total)

            return await _until_done(clients, progress)
    finally:
        watching.cancel()
        await clients.close()


async def _until_done(clients: Clients, progress: Progress) -> Report:
    """The main job, from the start again when a service or the database went away under it.

    Repeating it is safe: what was done is recognised.
    """
    for attempt in range(JOB_ATTEMPTS_MAX):
        try:
            return await run_main_job(clients, progress)
        except grpc.aio.AioRpcError as error:
            lasting = error.code() not in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.CANCELLED,
                grpc.StatusCode.ABORTED,
            )
            if lasting or attempt + 1 == JOB_ATTEMPTS_MAX:
                raise
            await asyncio.sleep(1)
    raise AssertionError("the loop returns or raises")


async def _watch(supervisor: Supervisor) -> None:
    """Keeps children alive while the main job runs; in the main thread, which forks them."""
    while True:
        supervisor.watch()
        await asyncio.sleep(_WATCH_S)


def _stop(*_: object) -> None:
    raise _Stopped


def main() -> None:
    """The command line."""
    app()


if __name__ == "__main__":
    main()
