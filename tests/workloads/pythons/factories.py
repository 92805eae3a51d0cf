"""Applications that only their server holds: `gunicorn 'factories:flask()'`, `uvicorn --factory factories:starlette`."""


def flask():
    from flask import Flask

    application = Flask(__name__)

    @application.route("/users/<int:number>")
    @application.route("/shops/<shop>/orders/<int:order>/")
    @application.route("/files/<path:name>")
    def answer(**arguments):
        return "ok"

    return application


def starlette():
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def answer(request):
        return PlainTextResponse("ok")

    orders = [Route("/{shop}/orders/{order:int}/", answer)]
    return Starlette(
        routes=[Route("/users/{number:int}", answer), Mount("/shops", routes=orders), Route("/files/{name:path}", answer)]
    )
