"""What the outside calls: webhooks, events, and what is answered at once."""
