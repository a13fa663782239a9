"""From batches to logits and losses."""
