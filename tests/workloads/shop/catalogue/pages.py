"""Pages that ask the database. The lines that the tests look for carry a comment `# span: name`."""

from django.db import connection
from django.http import Http404, JsonResponse

from .models import Product


def home(request):
    """One statement."""
    return JsonResponse({"products": count_products()})


def count_products():
    return Product.objects.count()  # span: count


def product(request, product_id):
    """One statement, with a literal that must not be stored; 404 for a product that is not there."""
    found = Product.objects.select_related("category").filter(pk=product_id).first()  # span: product
    if found is None:
        raise Http404("no such product")
    return JsonResponse({"name": found.name, "category": found.category.name, "price": found.price_cents})


def search(request):
    """One statement, with the words of the query string in it."""
    words = request.GET.get("q", "")
    rows = Product.objects.filter(name__icontains=words).values_list("name", flat=True)[:50]
    return JsonResponse({"names": list(rows)})  # span: search


def nplus1(request):
    """Exactly 21 statements: one for 20 products, then one for the category of each."""
    return JsonResponse({"categories": category_names(first_products())})


def first_products():
    return list(Product.objects.order_by("pk")[:20])  # span: list


def category_names(products):
    names = []
    for each in products:
        names.append(each.category.name)  # span: category
    return names


def slow_sql(request, milliseconds):
    """One statement that takes this long in the server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT SLEEP(%s)", [milliseconds / 1000])  # span: sleep
        cursor.fetchall()
    return JsonResponse({"slept": milliseconds})
