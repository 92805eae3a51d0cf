"""The applications of `flask_app.py` and `fastapi_app.py` as factories give them out: no module holds them."""


def taken_from(module):
    application = module.application
    del module.application
    return application


def flask():
    import flask_app

    return taken_from(flask_app)


def fastapi():
    import fastapi_app

    return taken_from(fastapi_app)
