"""The Kubernetes `Status` object: how an API server says no.

Every function returns an `ApiStatus` to raise; what it says follows apimachinery's `api/errors`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Named:
    """What an error speaks of: the resource's plural, its kind and its group ("" is core)."""

    group: str
    plural: str
    kind: str

    @property
    def qualified(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that is wrong. `reason` is like FieldValueInvalid, `message` like "Invalid value: …"."""

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def required(field: str, why: str = "") -> Cause:
    return Cause(field, "FieldValueRequired", "Required value" + (f": {why}" if why else ""))


def wrong(field: str, value: object, why: str) -> Cause:
    """Return the cause for a value that is not allowed; text is quoted as Go does."""
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause(field, "FieldValueInvalid", f"Invalid value: {shown}: {why}")


def unsupported(field: str, value: object, allowed: Sequence[str]) -> Cause:
    choices = ", ".join(f'"{choice}"' for choice in allowed)
    message = f'Unsupported value: "{value}": supported values: {choices}'
    return Cause(field, "FieldValueNotSupported", message)


def forbidden(field: str, why: str) -> Cause:
    return Cause(field, "FieldValueForbidden", f"Forbidden: {why}")


class ApiStatus(Exception):
    """A request that is refused: `code` is the HTTP status, `body` the Status object."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Json | None = None,
        *,
        metadata: Json | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s
        body: Json = {"kind": "Status", "apiVersion": "v1", "metadata": metadata or {}, "status": "Failure"}
        body["message"] = message
        if reason:
            body["reason"] = reason
        if retry_after_s is not None:
            details = {**(details or {}), "retryAfterSeconds": retry_after_s}
        if details is not None:
            body["details"] = details
        self.body = body | {"code": code}


def _details(what: Named, kind: str, name: str, causes: Sequence[Cause] = ()) -> Json:
    details: Json = {"name": name} if name else {}
    if what.group:
        details["group"] = what.group
    details["kind"] = kind
    if causes:
        details["causes"] = [
            {"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes
        ]
    return details


def not_found(what: Named, name: str) -> ApiStatus:
    message = f'{what.qualified} "{name}" not found'
    return ApiStatus(404, "NotFound", message, _details(what, what.plural, name))


def no_such_resource() -> ApiStatus:
    return ApiStatus(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(what: Named, name: str) -> ApiStatus:
    message = f'{what.qualified} "{name}" already exists'
    return ApiStatus(409, "AlreadyExists", message, _details(what, what.plural, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(what: Named, name: str, why: str = MODIFIED) -> ApiStatus:
    message = f'Operation cannot be fulfilled on {what.qualified} "{name}": {why}'
    return ApiStatus(409, "Conflict", message, _details(what, what.plural, name))


def invalid(what: Named, name: str, causes: Sequence[Cause]) -> ApiStatus:
    """Return a 422 that names every cause (at least one)."""
    listed = ", ".join(str(cause) for cause in causes)
    if len(causes) > 1:
        listed = f"[{listed}]"
    message = f'{what.qualified_kind} "{name}" is invalid: {listed}'
    return ApiStatus(422, "Invalid", message, _details(what, what.kind, name, causes))


def unmet(what: Named, name: str, why: str) -> ApiStatus:
    """Return the 409 for a precondition of a DELETE that does not hold; it names the kind."""
    message = f'Operation cannot be fulfilled on {what.qualified_kind} "{name}": {why}'
    return ApiStatus(409, "Conflict", message, _details(what, what.kind, name))


def refused(what: Named, name: str, why: str) -> ApiStatus:
    message = f'{what.qualified} "{name}" is forbidden: {why}'
    return ApiStatus(403, "Forbidden", message, _details(what, what.plural, name))


def bad_request(message: str) -> ApiStatus:
    return ApiStatus(400, "BadRequest", message)


def unauthorized() -> ApiStatus:
    return ApiStatus(401, "Unauthorized", "Unauthorized")


def method_not_allowed() -> ApiStatus:
    message = "the server does not allow this method on the requested resource"
    return ApiStatus(405, "MethodNotAllowed", message, {})


def not_acceptable(offered: Sequence[str]) -> ApiStatus:
    message = f"406: Not Acceptable\n\nAvailable representations: {', '.join(offered)}"
    return ApiStatus(406, "NotAcceptable", message, {})


def unsupported_media_type(offered: Sequence[str]) -> ApiStatus:
    accepted = ", ".join(offered)
    message = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
    return ApiStatus(415, "UnsupportedMediaType", message)


def unfitting() -> ApiStatus:
    """Return the 422 for a JSON Patch that does not fit the object."""
    message = "the server rejected our request due to an error in our request"
    return ApiStatus(422, "Invalid", message, {})


def unsupported_patch() -> ApiStatus:
    return ApiStatus(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})


def gone(message: str, continue_token: str = "") -> ApiStatus:
    """Return a 410; with `continue_token` a list may go on, without the consistency of its first page."""
    metadata = {"continue": continue_token} if continue_token else {}
    return ApiStatus(410, "Expired", message, metadata=metadata)


def internal(message: str) -> ApiStatus:
    details = {"causes": [{"message": message}]}
    return ApiStatus(500, "InternalError", f"Internal error occurred: {message}", details)


def too_large(rv: int, current: int) -> ApiStatus:
    """Return the 504 for a version that the server has not reached."""
    message = f"Timeout: Too large resource version: {rv}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return ApiStatus(504, "Timeout", message, {"causes": [cause]}, retry_after_s=1)
