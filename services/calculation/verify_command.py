"""The command `carbonaccount verify`; alone: `python -m services.calculation.verify_command`.

Alone it needs neither grpc nor a database driver nor the generated contract.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from services.calculation.domain.published import SUMS
from services.calculation.factor_files import FACTORS
from services.calculation.verify import (
    Report,
    ResultUnreadable,
    methodology_id,
    read_result,
    verify,
)

METHODOLOGIES = Path(__file__).parent / "methodologies"
FILE_BYTES_MAX = 8 * 1024 * 1024
"""Far more than an assessment or a file of the library has."""


def verify_result(
    result: Annotated[Path, typer.Argument(help="JSON that GetAssessment or an estimate gave")],
    methodology: Annotated[
        Path | None, typer.Option(help="its methodology file; by default the shipped one")
    ] = None,
    factors: Annotated[
        Path,
        typer.Option(
            help="directory of the factor files that it may quote", show_default="the shipped ones"
        ),
    ] = FACTORS,
    lang: Annotated[Literal["en", "zh"], typer.Option(help="of the working")] = "en",
) -> None:
    """Compute a result again from its methodology file alone, and compare every number.

    Exit code 0 when all agree, 1 when something differs, 2 when it cannot be read.
    """
    try:
        said = read_result(_text(result, "name the file that holds the result"))
        wanted = methodology_id(said)
        text = _methodology(wanted, methodology) if wanted else ""
        report = verify(said, text, _factors(factors) if wanted else {})
    except ResultUnreadable as error:
        _print(f"[red]cannot verify:[/] {_plain(str(error))}", Console(stderr=True))
        raise typer.Exit(2) from None
    _print_report(report, lang, shipped=methodology is None)
    raise typer.Exit(0 if report.agrees else 1)


def _methodology(wanted: str, given: Path | None) -> str:
    shipped = METHODOLOGIES / f"{wanted}.toml"
    if given is None and not shipped.exists():
        raise ResultUnreadable(
            f"the shipped library has no {wanted}; give its file with --methodology"
        )
    return _text(given or shipped, f"give the file of {wanted} with --methodology")


def _factors(directory: Path) -> dict[str, str]:
    """The files of the registry. Without published.sum too: what a version quotes is sealed by
    its own digest."""
    paths = [*sorted(directory.glob("*.toml")), directory / SUMS]
    mend = "name a directory of factor files with --factors"
    if len(paths) == 1:
        raise ResultUnreadable(f"{directory} has no factor files; {mend}")
    return {path.name: _text(path, mend) for path in paths if path.exists()}


def _text(path: Path, mend: str) -> str:
    """The text of a file; ResultUnreadable, with how to mend it, without one."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise ResultUnreadable(f"{path} has more than {FILE_BYTES_MAX} bytes; {mend}")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ResultUnreadable(f"{path}: {error.strerror}; {mend}") from None
    except UnicodeDecodeError:
        raise ResultUnreadable(f"{path} is no text in UTF-8; save it in UTF-8, or {mend}") from None


def _print_report(report: Report, lang: str, *, shipped: bool) -> None:
    console = Console()
    _print(f"[bold]{_plain(report.subject)}[/]", console)
    for finding in report.findings:
        colour = "green" if finding.agrees else "red"
        _print(f"  [{colour}]{_plain(str(finding))}[/]", console)
    if report.steps:
        _print(
            "演算过程（在此重新计算）："
            if lang == "zh"
            else "The working, as it was computed here:",
            console,
        )
    for number, step in enumerate(report.steps, 1):
        sentence = step.sentence_zh if lang == "zh" else step.sentence_en
        _print(f"  {number}. {_plain(sentence)}", console)
    if report.note:
        _print(f"{_plain(report.note)}.", console)
    if report.unchecked:
        listed = ", ".join(report.unchecked)
        _print(f"Not in the methodology file, so not checked: {_plain(listed)}.", console)
    apart = {finding.what for finding in report.findings if not finding.agrees}
    if "methodology_digest" in apart:
        which = "the shipped file" if shipped else "this file"
        _print(
            f"{which[0].upper()}{which[1:]} is not the text that the result was computed by; give "
            "that text with --methodology (ListLibraryDrafts has every text that was published).",
            console,
        )
    many = len(report.findings)
    _print(
        f"[red]{len(apart)} of {many} differ.[/]" if apart else f"[green]All {many} agree.[/]",
        console,
    )


def _print(markup: str, console: Console) -> None:
    console.print(markup, highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    """What a file said, without what would steer the terminal or rich."""
    return escape("".join(one if one.isprintable() or one == "\n" else "?" for one in text))


if __name__ == "__main__":
    typer.run(verify_result)
