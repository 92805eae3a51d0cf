"""Settings of the shop, as a small site in production would have them. The database comes from the environment:
SHOP_DB_HOST, SHOP_DB_PORT (or SHOP_DB_SOCKET), SHOP_DB_NAME, SHOP_DB_USER, SHOP_DB_PASSWORD."""

import os

SECRET_KEY = "for the tests only"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "catalogue"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "shop.worker.NameWorker"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
# Bodies of 10 MB are read whole.
DATA_UPLOAD_MAX_MEMORY_SIZE = None

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.mysql",
        "HOST": os.environ.get("SHOP_DB_SOCKET") or os.environ.get("SHOP_DB_HOST", "127.0.0.1"),
        "PORT": os.environ.get("SHOP_DB_PORT", ""),
        "NAME": os.environ.get("SHOP_DB_NAME", "shop"),
        "USER": os.environ.get("SHOP_DB_USER", "shop"),
        "PASSWORD": os.environ.get("SHOP_DB_PASSWORD", ""),
        # A connection lives as long as its worker.
        "CONN_MAX_AGE": None,
    }
}
