"""What the shop sells."""

from django.db import models


class Category(models.Model):
    name = models.CharField(max_length=64)


class Product(models.Model):
    name = models.CharField(max_length=128, db_index=True)
    price_cents = models.PositiveIntegerField()
    category = models.ForeignKey(Category, on_delete=models.CASCADE)
