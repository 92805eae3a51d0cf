"""Routes of the shop; what each promises is in its view's docstring."""

from catalogue import faults, pages, transfers, work
from django.urls import path

urlpatterns = [
    path("", pages.home),
    path("products/<int:product_id>", pages.product),
    path("search", pages.search),
    path("nplus1", pages.nplus1),
    path("slow-sql/<int:milliseconds>", pages.slow_sql),
    path("sleep/<int:milliseconds>", work.sleep),
    path("cpu/<int:milliseconds>", work.cpu),
    path("lock/<int:milliseconds>", work.lock),
    path("rival/<int:milliseconds>", work.rival),
    path("peer/<int:milliseconds>", work.peer),
    path("sync/<int:times>", work.sync),
    path("error", faults.error),
    path("sqlerror", faults.sqlerror),
    path("status/<int:code>", faults.status),
    path("upload", transfers.upload),
    path("download/<int:size>", transfers.download),
    path("chunked", transfers.chunked),
]
