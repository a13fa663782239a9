"""The way from batches to logits and losses: networks, their weights and their training."""
