"""Says in each response which process served it: the truth that the tests compare with."""

import os
import threading


class NameWorker:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        response["X-Worker"] = str(os.getpid())
        response["X-Thread"] = str(threading.get_native_id())
        return response
