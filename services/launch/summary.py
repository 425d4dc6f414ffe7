"""What the main job found, for a person and for a program."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.launch.main_job import Report


def write_report(report: Report, path: Path) -> None:
    """Writes report.json whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(report), ensure_ascii=False, indent=2) + "\n")
    draft.replace(path)


def read_report(path: Path) -> Report | None:
    """The report of an earlier run, or None."""
    try:
        return Report(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def print_summary(report: Report, console: Console, path: Path) -> None:
    """A summary that can be read in a minute."""
    acts = report.acts
    refused = ", ".join(f"{count} {reason}" for reason, count in sorted(acts["refused"].items()))
    console.print()
    console.print(
        f"[bold]{acts['sent']:,}[/] acts sent for {report.accounts} demo accounts: "
        f"[bold]{acts['accepted']:,}[/] recorded, {acts['repeated']:,} repeated, "
        f"refused: {refused or 'none'}"
    )
    table = Table("scene", "kg CO2 avoided", title="Reductions", title_justify="left")
    for scene, mg in report.reduction_mg.items():
        table.add_row(scene.removeprefix("scenes/"), f"{mg / 1_000_000:,.3f}")
    console.print(table)
    working = Table("step", "expression", "result", "source", title="One trip, step by step")
    for step in report.working:
        where = f"{step['source']} ({step['status']})" if step["source"] else ""
        working.add_row(
            f"{step['label_zh']} {step['label_en']}",
            step["expression"],
            f"{step['result']} {step['unit']}",
            where,
        )
    console.print(working)
    console.print(
        f"{report.example['activity']}\n  earned {report.example['reduction_mg'] / 1000:,.3f} g by "
        f"{report.example['methodology_version']}; the account holds "
        f"{report.example['account_balance_mg'] / 1000:,.3f} g"
    )
    sums = ", ".join(f"{asset}: {total}" for asset, total in report.ledger_sum.items())
    console.print(f"The ledger adds up to zero ({sums}); accounts hold {report.balance_mg:,} mg.")
    console.print("Assumptions of the demonstration:")
    for line in report.assumptions:
        console.print(f"  - {line['en']}\n    {line['zh']}", highlight=False)
    console.print(f"{report.acts_per_s:,} acts/s, {report.duration_s} s in all; report: {path}")
