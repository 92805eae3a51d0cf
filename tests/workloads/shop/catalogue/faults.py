"""Requests that fail, each in its own known way."""

from django.db import ProgrammingError, connection
from django.http import HttpResponse, JsonResponse


def error(request):
    """Ends in a ZeroDivisionError, a few calls down, that nobody handles: status 500."""
    return JsonResponse({"result": outer(3)})


def outer(depth):
    return outer(depth - 1) if depth else inner(0)


def inner(divisor):
    return 1 // divisor  # raises: division


def sqlerror(request):
    """Asks for a table that is not there: error 1146, handled here, status 500."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM table_that_is_not_there")  # span: missing
    except ProgrammingError as raised:
        return JsonResponse({"errno": raised.args[0]}, status=500)
    return JsonResponse({"errno": None})


def status(request, code):
    """An answer with this status and, where the protocol admits one, a body."""
    body = b"" if code in (204, 304) else b"as you wish\n"
    return HttpResponse(body, status=code)
