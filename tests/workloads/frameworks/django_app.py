"""Django, without a database. Every route answers with its own name; `/deep` and `/refused` fail, `/handled` does not,
and `/excused` catches its exception and answers 500.

usage: FOLDER=... gunicorn django_app:application
"""
import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import got_request_exception
from django.http import HttpResponse
from django.urls import include, path, re_path

import said

settings.configure(
    DEBUG=False,
    SECRET_KEY="none",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    LOGGING_CONFIG=None,
)


def answer(request, **arguments):
    return HttpResponse(request.path)


class Catalogue:
    """A view that is an object."""

    def __call__(self, request, number):
        return HttpResponse("item %d" % number)


def deep(request):
    return HttpResponse(said.deep(4))


def refused(request):
    return HttpResponse(said.refuse())


def handled(request):
    return HttpResponse(said.catch())


def excused(request):
    try:
        said.attribute(None)
    except AttributeError:
        return HttpResponse("sorry", status=500)


inner = [
    path("", answer, name="list"),
    path("<int:order>/", answer),
    path("<int:order>/lines/<slug:line>", answer),
]

urlpatterns = [
    path("", answer),
    path("deep", deep),
    path("refused", refused),
    path("handled", handled),
    path("excused", excused),
    path("users/<int:number>", answer),
    path("users/me", answer),
    path("files/<path:name>", answer),
    path("by-uuid/<uuid:key>/x", answer),
    path("catalogue/<int:number>", Catalogue()),
    path("shops/<str:shop>/orders/", include(inner)),
    re_path(r"^articles/(?P<year>[0-9]{4})/(?P<slug>[\w-]+)/$", answer),
    re_path(r"^old/([0-9]+)$", answer),
]


def failed(sender, request, **arguments):
    said.put_down(request.path)


got_request_exception.connect(failed)
django.setup()
application = WSGIHandler()
