"""Identity as a process: it starts from its environment and ends on a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
from carbonaccount.identity.v1.consent_service_pb2 import ListScopesRequest
from carbonaccount.identity.v1.consent_service_pb2_grpc import ConsentServiceStub
from identity_house import settings_for

from shared.rpc.tokens import load_or_make_key

ROOT = Path(__file__).parents[2]


def environment(database_url: str, keys_dir: Path) -> tuple[dict[str, str], str]:
    settings = settings_for(database_url, keys_dir)
    load_or_make_key(keys_dir)
    told = {
        "CARBONACCOUNT_IDENTITY_DATABASE_URL": database_url,
        "CARBONACCOUNT_IDENTITY_LISTEN": settings.listen,
        "CARBONACCOUNT_IDENTITY_KEYS_DIR": str(keys_dir),
    }
    return {**os.environ, **told}, settings.listen


def test_the_process_serves_and_ends_in_order_on_a_signal(
    database_url: str, tmp_path: Path
) -> None:
    told, listen = environment(database_url, tmp_path)
    process = subprocess.Popen([sys.executable, "-m", "services.identity"], cwd=ROOT, env=told)
    try:
        with grpc.insecure_channel(listen) as channel:
            answer = ConsentServiceStub(channel).ListScopes(
                ListScopesRequest(), timeout=20, wait_for_ready=True
            )
        assert len(answer.scopes) > 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_missing_setting_is_one_clear_line(database_url: str, tmp_path: Path) -> None:
    told, _ = environment(database_url, tmp_path)
    del told["CARBONACCOUNT_IDENTITY_LISTEN"]
    ended = subprocess.run(
        [sys.executable, "-m", "services.identity"],
        cwd=ROOT, env=told, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "CARBONACCOUNT_IDENTITY_LISTEN is not set" in ended.stderr
    assert "Traceback" not in ended.stderr
