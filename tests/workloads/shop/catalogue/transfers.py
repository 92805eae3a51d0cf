"""Bodies, large and in pieces, in both directions."""

from django.http import HttpResponse, JsonResponse, StreamingHttpResponse


def upload(request):
    """Reads the whole body, of a length told before or in chunks, and says how long it was."""
    if request.headers.get("Transfer-Encoding", "").lower() == "chunked":
        # Django goes by Content-Length; the server has already taken the chunks apart.
        body = request.environ["wsgi.input"].read()
    else:
        body = request.body
    return JsonResponse({"received": len(body)})


def download(request, size):
    """A body of this many bytes, its length told before."""
    return HttpResponse(b"x" * size, content_type="application/octet-stream")


def chunked(request):
    """A body in so many pieces of 1,000 bytes, its length not told before."""
    pieces = int(request.GET.get("pieces", "8"))
    return StreamingHttpResponse((b"y" * 1000 for _ in range(pieces)), content_type="application/octet-stream")
