"""Warehouses: one file each, behind the `Warehouse` protocol."""
