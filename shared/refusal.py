"""Refusals: what the suite says when it will not do something.

A refusal is raised or returned as a value where the rule stands and is turned into a
`google.rpc.Status` at the border by `shared.rpc.status` alone. Clients branch on the
reason, never on the text. The reasons are those of `carbonaccount.errors.v1.Reason`
without their prefix; a test holds the two lists together.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Code(Enum):
    """The gRPC status codes that refusals use, by their gRPC names."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class Refusal(Exception):
    """A request is not done, for one closed reason; nothing was changed by it.

    `message` is one English sentence: the value, the rule, the way out. `metadata` carries
    the keys that the reason documents. `field` is set when one field is at fault.
    `retry_after_ms` is set when waiting helps.
    """

    code: Code = Code.FAILED_PRECONDITION
    reason: str = "UNSPECIFIED"

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        retry_after_ms: int = 0,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_ms = retry_after_ms
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}


class FieldInvalid(Refusal):
    """A field broke its rule."""

    code, reason = Code.INVALID_ARGUMENT, "FIELD_INVALID"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message, field=field, metadata={"field": field})


class PageTokenInvalid(Refusal):
    """The page token is unknown or belongs to another query."""

    code, reason = Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"


class RequestIdReused(Refusal):
    """The request_id was used with other content."""

    code, reason = Code.ALREADY_EXISTS, "REQUEST_ID_REUSED"


class ResourceNotFound(Refusal):
    """No such resource, or not one that this caller may see."""

    code, reason = Code.NOT_FOUND, "RESOURCE_NOT_FOUND"

    def __init__(self, resource: str, hint: str = "") -> None:
        text = f"{resource} does not exist" + (f"; {hint}" if hint else "")
        super().__init__(text, metadata={"resource": resource})


class ResourceExists(Refusal):
    """The name or key is taken by other content."""

    code, reason = Code.ALREADY_EXISTS, "RESOURCE_EXISTS"


class CallerNotAllowed(Refusal):
    """This kind of caller, or this caller for this resource, may not do that."""

    code, reason = Code.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"


class TokenInvalid(Refusal):
    """The token is missing, malformed, expired, or not signed by a known key."""

    code, reason = Code.UNAUTHENTICATED, "TOKEN_INVALID"


class ConsentMissing(Refusal):
    """No consent in force covers that scene at that moment."""

    reason = "CONSENT_MISSING"


class NoticeStale(Refusal):
    """The notice text agreed to is not the one in force."""

    reason = "NOTICE_STALE"


class AccountNotOpen(Refusal):
    """The account is suspended or closed."""

    reason = "ACCOUNT_NOT_OPEN"


class SceneNotGranted(Refusal):
    """The source may not report that scene."""

    reason = "SCENE_NOT_GRANTED"


class CursorOutOfRange(Refusal):
    """The feed does not hold that cursor."""

    code, reason = Code.OUT_OF_RANGE, "CURSOR_OUT_OF_RANGE"


class BalanceTooLow(Refusal):
    """The pocket would fall below its floor."""

    reason = "BALANCE_TOO_LOW"


class StateConflict(Refusal):
    """The resource is in the wrong state."""

    reason = "STATE_CONFLICT"


class LimitReached(Refusal):
    """A named limit was reached."""

    code, reason = Code.RESOURCE_EXHAUSTED, "LIMIT_REACHED"


class RetryLater(Refusal):
    """Nothing was changed; the same call may be made again."""

    code, reason = Code.UNAVAILABLE, "RETRY_LATER"

    def __init__(self, message: str, *, cause: str, retry_after_ms: int = 200) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms, metadata={"cause": cause})


class OffsetOutOfRange(Refusal):
    """The append starts above next_offset."""

    code, reason = Code.OUT_OF_RANGE, "OFFSET_OUT_OF_RANGE"


class LaneTakenOver(Refusal):
    """Another stream opened the lane."""

    code, reason = Code.ABORTED, "LANE_TAKEN_OVER"


class ActAlreadyClaimed(Refusal):
    """Another event claimed the same physical act first."""

    reason = "ACT_ALREADY_CLAIMED"


class MethodologyMissing(Refusal):
    """No methodology prices that scene there on that day."""

    code, reason = Code.NOT_FOUND, "METHODOLOGY_MISSING"


class BookHalted(Refusal):
    """The book does not add up; issuing is halted until it does."""

    reason = "BOOK_HALTED"


class DeadlineExceeded(Refusal):
    """The caller's deadline passed before the work was done."""

    code, reason = Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"


class EtagMismatch(Refusal):
    """The resource changed since it was read."""

    code, reason = Code.ABORTED, "ETAG_MISMATCH"


class ConfirmationMissing(Refusal):
    """A sensitive scope was agreed to without a confirmation of its own."""

    reason = "CONFIRMATION_MISSING"


class GuardianRequired(Refusal):
    """The holder is under 14 and only the guardian decides that."""

    reason = "GUARDIAN_REQUIRED"


class SubjectNotBound(Refusal):
    """The subject is bound to no account."""

    reason = "SUBJECT_NOT_BOUND"


class CodeInvalid(Refusal):
    """The one-time code or ticket was used, has run out, or never was."""

    reason = "CODE_INVALID"
