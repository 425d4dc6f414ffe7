"""The commands about keys: rotate, retire and list them; make tokens and tickets with them."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from services.identity.key_commands import wrapping_keys_app
from services.identity.upstream.bank_tickets import (
    CUSTOMER_KINDS,
    VALID_MAX_S,
    make_double_ticket,
)
from services.launch.faults import clear_faults
from services.launch.layout import CHECKOUT, this_checkout
from shared.clock import now_us
from shared.ids import account_id_of
from shared.refusal import FieldInvalid
from shared.rpc import keyring
from shared.rpc.caller import KINDS
from shared.rpc.tokens import load_or_make_key, make_token
from shared.storage.embedded import EmbeddedPostgres, default_home


def _identity_url() -> str:
    """Where identity's database is: the one that is named, or that of the running suite."""
    layout = this_checkout()
    named = layout.database_url("identity")
    home = default_home(CHECKOUT, layout.environment)
    return named or EmbeddedPostgres(home).url("identity")


wrapping_keys = wrapping_keys_app(_identity_url, lambda: this_checkout().keys)
keys = typer.Typer(no_args_is_help=True, help="Signing keys: rotate, retire, list.")


class Purpose(StrEnum):
    """What a key signs."""

    TOKENS = keyring.TOKENS
    RECEIPTS = keyring.RECEIPTS


@keys.command("rotate")
def rotate_keys(
    purpose: Annotated[Purpose, typer.Argument(help="what the new key is to sign")],
) -> None:
    """Make a new key and sign with it from now on; what older keys signed stays valid."""
    with clear_faults(Console(stderr=True)):
        print(keyring.rotate(this_checkout().keys, purpose))


@keys.command("retire")
def retire_key(
    key_id: Annotated[
        str, typer.Argument(help="as `keys list` shows it; put -- before one that begins with -")
    ],
) -> None:
    """End every token that this key signed."""
    with clear_faults(Console(stderr=True)):
        keyring.retire(this_checkout().keys, key_id)


@keys.command("list")
def list_keys() -> None:
    """Show every published key, newest first."""
    with clear_faults(Console(stderr=True)):
        for key in keyring.published(this_checkout().keys):
            print(f"{key.key_id}  {key.purpose:<8}  {'signs now' if key.current else 'verifies'}")


def token(
    kind: Annotated[str, typer.Argument(help=f"one of {', '.join(KINDS[1:])}")],
    name: Annotated[str, typer.Argument(help="such as sources/bike-demo or operators/me")],
    customer_ref: Annotated[str, typer.Option(help="the bank's reference of a customer")] = "",
    person_ref: Annotated[str, typer.Option(help="the bank's reference of the person")] = "",
    customer_kind: Annotated[
        int, typer.Option(help="1 cardholder, 2 debit, 3 of another bank", min=0, max=3)
    ] = 0,
    account: Annotated[str, typer.Option(help="accounts/{account} of a customer")] = "",
    acts_for: Annotated[
        list[str] | None, typer.Option(help="accounts/{account} of a ward or household")
    ] = None,
    lifetime_s: Annotated[int, typer.Option(help="seconds until it expires", min=1)] = 3600,
) -> None:
    """Print a signed development token for a caller."""
    if kind not in KINDS[1:]:
        _refuse(f"kind is {kind!r}; it must be one of {', '.join(KINDS[1:])}")
    for other in acts_for or ():
        try:
            account_id_of(other, "--acts-for")
        except FieldInvalid as refusal:
            _refuse(refusal.message)
    with clear_faults(Console(stderr=True)):
        key = load_or_make_key(this_checkout().keys)
    now_s = now_us() // 10**6
    made = make_token(
        key, kind, name, customer_ref=customer_ref, person_ref=person_ref,
        customer_kind=customer_kind, account=account,
        acts_for=dict.fromkeys(acts_for or (), now_s + lifetime_s), lifetime_s=lifetime_s,
        issue_s=now_s,
    )  # fmt: skip
    print(made)


def bank_ticket(
    customer_ref: Annotated[str, typer.Option(help="the bank's reference of the relation")],
    person_ref: Annotated[str, typer.Option(help="the bank's reference of the person")] = "",
    customer_kind: Annotated[
        str, typer.Option(help=f"one of {', '.join(CUSTOMER_KINDS[1:])}")
    ] = CUSTOMER_KINDS[1],
    birth_date: Annotated[str, typer.Option(help="YYYY-MM-DD; empty when not known")] = "",
    guardian_ref: Annotated[str, typer.Option(help="reference of a child's guardian")] = "",
    lifetime_s: Annotated[
        int, typer.Option(help="seconds until it expires", min=1, max=VALID_MAX_S)
    ] = VALID_MAX_S,
) -> None:
    """Print a one-time sign-in ticket of the development double of a bank."""
    if customer_kind not in CUSTOMER_KINDS:
        _refuse(
            f"--customer-kind is {customer_kind!r}; it must be one of "
            f"{', '.join(CUSTOMER_KINDS[1:])}"
        )
    with clear_faults(Console(stderr=True)):
        ticket = make_double_ticket(
            this_checkout().keys, customer_ref, now_us() // 10**6, person_ref=person_ref,
            customer_kind=customer_kind, birth_date=birth_date, guardian_ref=guardian_ref,
            lifetime_s=lifetime_s,
        )  # fmt: skip
    print("This is no bank: a development double made the ticket.", file=sys.stderr)
    print(ticket)


def _refuse(why: str) -> None:
    print(why, file=sys.stderr)
    raise typer.Exit(2)
