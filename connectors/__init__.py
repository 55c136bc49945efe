"""Between the warehouse and the outside: destinations, webhooks, warehouses, one delivery loop."""
