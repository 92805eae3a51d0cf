"""Flask. Every route answers with its own name; `/deep` and `/refused` fail, `/handled` does not, and `/excused` catches its
exception and answers 500.

usage: FOLDER=... gunicorn flask_app:application
"""
from flask import Blueprint, Flask, got_request_exception, request
from flask.views import MethodView

import said

application = Flask(__name__)
orders = Blueprint("orders", __name__, url_prefix="/shops/<shop>/orders")


@application.route("/")
@application.route("/users/<int:number>")
@application.route("/users/me")
@application.route("/files/<path:name>")
@application.route("/by-uuid/<uuid:key>/x")
@application.route("/prices/<float:price>")
@application.route("/<any(en, de):language>/about")
def answer(**arguments):
    return request.path


@orders.route("/")
@orders.route("/<int:order>/")
@orders.route("/<int:order>/lines/<string(length=2):line>")
def answer_order(shop, **arguments):
    return request.path


class Catalogue(MethodView):
    def get(self, number):
        return "item %d" % number


@application.route("/deep")
def deep():
    return str(said.deep(4))


@application.route("/refused")
def refused():
    return said.refuse()


@application.route("/handled")
def handled():
    return said.catch()


@application.route("/excused")
def excused():
    try:
        said.attribute(None)
    except AttributeError:
        return "sorry", 500


application.add_url_rule("/catalogue/<int:number>", view_func=Catalogue.as_view("catalogue"))
application.register_blueprint(orders)


@got_request_exception.connect_via(application)
def failed(sender, exception, **arguments):
    said.put_down(request.path)
