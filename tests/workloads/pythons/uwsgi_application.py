"""A WSGI application whose import starts to compute: what runs is the application server, with Python as a plugin."""
import container

container.outer()
