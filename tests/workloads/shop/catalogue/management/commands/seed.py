"""`manage.py seed`: fills the tables with the same rows each time."""

from catalogue.models import Category, Product
from django.core.management.base import BaseCommand

NAMES = ["books", "games", "garden", "kitchen", "music", "paper", "tools", "toys"]


class Command(BaseCommand):
    help = "Replaces the contents of the shop by 8 categories and 200 products"

    def handle(self, *args, **options):
        Product.objects.all().delete()
        Category.objects.all().delete()
        Category.objects.bulk_create(Category(pk=1 + i, name=name) for i, name in enumerate(NAMES))
        Product.objects.bulk_create(
            Product(pk=1 + i, name=f"{NAMES[i % 8]} no. {i}", price_cents=99 + 7 * i, category_id=1 + i % 8)
            for i in range(200)
        )
        self.stdout.write("seeded 200 products")
