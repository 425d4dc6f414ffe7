"""What lies in the archive of a copy beside the data: a word to the reader, and the digests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.identity.domain.operation import Operation
from shared.ids import account_name

MANIFEST_TYP = "archive-manifest+jws"
"""The `typ` in the header of a signed manifest: nothing else that we sign passes for one."""


@dataclass(frozen=True)
class Listed:
    """A file of the archive with its size in bytes and its SHA-256."""

    name: str
    size: int
    digest: bytes


def manifest_of(operation: Operation, files: Sequence[Listed], now: datetime) -> bytes:
    """The manifest as JSON: whose copy it is, of when, and the digest of every file."""
    told = {
        "account": account_name(operation.account_id),
        "operation": operation.name,
        "ask_time": _text(operation.create_time),
        "pack_time": _text(now),
        "files": [
            {"name": one.name, "bytes": one.size, "sha256": one.digest.hex()} for one in files
        ],
    }
    return json.dumps(told, ensure_ascii=False, indent=1).encode() + b"\n"


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


README = """\
个人碳账户：您的数据副本
========================

这里有什么
- identity/     账户、您填写的资料（全部版本）、同意记录与已签名的回执、绑定、家庭与社区、
                登录、查阅记录
- activity/     您的低碳行为：时间、地点、数量
- calculation/  每个行为减排量的核算：数值、方法学版本
- settlement/   账本：余额与逐笔收支
每一类数据有两个内容相同的文件：.json 供程序读取（UTF-8），.csv 供表格软件打开（UTF-8，带 BOM）。
时间均为世界协调时（以 Z 结尾），“日”为北京时间的日期。减排量单位为毫克（mg）。
.csv 中以 = + - @ 开头的文字前加了一个单引号，以免被表格软件当作公式；.json 中没有。
receipt-*.jws 是您每一次同意、拒绝、撤回的签名回执。

如何核验
1. manifest.json 列出每个文件的大小和 SHA-256；逐一核对，例如：sha256sum identity/account.json
2. manifest.jws 是对 manifest.json 的签名（JWS，ES256），其内容与 manifest.json 逐字节相同。
   用服务方公布的 verify_receipt.py 核验：python verify_receipt.py manifest.jws keys.jwks
3. keys.jwks 是公钥。请与服务方公开的公钥（GET /v1/signingKeys）比对后再信任。
4. 回执同样核验：python verify_receipt.py identity/receipt-00001-granted.jws keys.jwks

本压缩包含有您的个人信息，请妥善保管。


Personal carbon account: a copy of your data
============================================

What is in it
- identity/     the account, what you told us (every version), consents with their signed
                receipts, bindings, households and communities, sign-ins, who looked
- activity/     what you did: when, where, how much
- calculation/  how much each act saved: amounts, versions of the methodology
- settlement/   the ledger: balances and every entry
Each kind of data is in two files of the same content: .json for programs (UTF-8), .csv for
spreadsheets (UTF-8 with a byte order mark). Times are UTC (they end in Z), days are those of
Beijing. Reductions are in milligrams (mg). In .csv a text that begins with = + - @ has an
apostrophe before it, so that no spreadsheet runs it; in .json it has none.
receipt-*.jws are the signed receipts of each time you agreed, refused or withdrew.

How to verify it
1. manifest.json lists size and SHA-256 of every file; compare, such as:
   sha256sum identity/account.json
2. manifest.jws is manifest.json, signed (JWS, ES256); its payload is manifest.json byte for byte.
   With the verifier that the service publishes: python verify_receipt.py manifest.jws keys.jwks
3. keys.jwks are the public keys. Compare them with those that the service publishes
   (GET /v1/signingKeys) before you trust them.
4. A receipt likewise: python verify_receipt.py identity/receipt-00001-granted.jws keys.jwks

This archive holds personal data about you; keep it safe.
"""
