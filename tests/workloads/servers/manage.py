"""The same application for Django's own server: `manage.py runserver ADDRESS`."""

import sys

import app
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import re_path


def view(request):
    status, body = app.answer(request.path)
    return HttpResponse(body, status=int(status.split()[0]), headers=dict(app.headers(body)))


urlpatterns = [re_path(r"^.*$", view)]
settings.configure(ROOT_URLCONF=__name__, DEBUG=True, ALLOWED_HOSTS=["*"], SECRET_KEY="none")

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
