"""Errors of the admin API, and the one table that turns errors into problems (RFC 9457)."""

from collections.abc import Sequence
from http import HTTPStatus

from zerogate.admin.api import Problem
from zerogate.errors import DefinitionError, DefinitionErrors, ZerogateError, nearest


class UnknownServiceError(ZerogateError):
    """There is no service of that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        near = nearest(name, known)
        hint = f"Did you mean {near}?" if near else _listed(known)
        super().__init__(f"There is no service {name}. {hint}")


class NotApplicableError(ZerogateError):
    """The service is not of a kind that can do what is asked: an endpoint has no replicas to pin and no log."""


class MalformedRequestError(ZerogateError):
    """The request to the admin API is wrong in itself."""


class RefusedRequestError(ZerogateError):
    """The request comes from where none is taken."""


def problem_of(error: ZerogateError) -> Problem:
    """What a client of the admin API is told."""
    errors: tuple[str, ...] = ()
    match error:
        case DefinitionErrors():
            status, code = 422, "wrong_definition"
            errors = tuple(str(one) for one in error.errors)
        case DefinitionError():
            status, code, errors = 422, "wrong_definition", (str(error),)
        case UnknownServiceError():
            status, code = 404, "unknown_service"
        case NotApplicableError():
            status, code = 409, "not_applicable"
        case MalformedRequestError():
            status, code = 400, "malformed_request"
        case RefusedRequestError():
            status, code = 403, "refused"
        case _:
            status, code = 500, "failed"
    return Problem(title=HTTPStatus(status).phrase, status=status, code=code, detail=str(error), errors=errors)


def _listed(known: Sequence[str]) -> str:
    if not known:
        return "There are no services at all."
    shown = ", ".join(known[:10])
    return f"The services are {shown}" + (f" and {len(known) - 10} more." if len(known) > 10 else ".")
