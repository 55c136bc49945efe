"""What the outside calls: the receiver of vendors' webhooks."""
