"""FastAPI. Every route answers with its own name; `/deep` and `/refused` fail, `/handled` does not, and `/excused` catches its
exception and answers 500.

usage: FOLDER=... uvicorn fastapi_app:application
"""
import logging

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import PlainTextResponse
from starlette.applications import Starlette
from starlette.routing import Mount, Route

import said

application = FastAPI()
orders = APIRouter(prefix="/shops/{shop}/orders")


@application.get("/")
@application.get("/users/me")
@application.get("/users/{number:int}")
@application.get("/files/{name:path}")
@application.get("/by-uuid/{key:uuid}/x")
async def answer(request: Request):
    return PlainTextResponse(request.url.path)


@application.get("/catalogue/{number}")
def catalogue(number: int):
    return number


@orders.get("/")
@orders.get("/{order}/")
@orders.get("/{order}/lines/{line}")
async def answer_order(request: Request):
    return PlainTextResponse(request.url.path)


@application.get("/deep")
async def deep():
    return said.deep(4)


@application.get("/refused")
async def refused():
    return said.refuse()


@application.get("/handled")
async def handled():
    return said.catch()


@application.get("/excused")
async def excused():
    try:
        said.attribute(None)
    except AttributeError:
        return PlainTextResponse("sorry", status_code=500)


async def mounted(request):
    return PlainTextResponse(request.url.path)


application.include_router(orders)
application.router.routes.append(
    Mount("/v2", app=Starlette(routes=[Mount("/things", routes=[Route("/{thing}", mounted)])]))
)


class Failed(logging.Handler):
    """Uvicorn logs what reached it, with the exception."""

    def emit(self, record):
        if record.exc_info:
            said.put_down("")


logging.getLogger("uvicorn.error").addHandler(Failed())
