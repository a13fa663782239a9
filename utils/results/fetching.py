"""Checkpoints on the network, by what --checkpoint says: a model of the hub, or a link to a file and its digest."""

from __future__ import annotations

from pathlib import Path

from utils.fetching.references import HubModel, Note, parse
from utils.results.published import CARD, CONFIG, LABELS, MODEL, STATISTICS


def fetch(reference: str, note: Note = print) -> Path:
    """Returns a checkpoint of the network as a path of this machine: from a cache, else downloaded into it.

    Args:
        reference: `hf://owner/name[@revision]`, or `https://host/file#sha256=<64 hexadecimal digits>`.
        note: called with each line for the user while it lasts.

    Returns:
        The folder of a published model, or a file; both belong to a cache, and nothing else is to be written there.

    Raises:
        UserError: the reference is no such text; or what it names cannot be had, or is something else.
    """
    named = parse(reference)
    from utils.fetching.hub import fetch_model  # these here: most commands fetch nothing
    from utils.fetching.links import fetch_link
    from utils.results.run_folder import SCORES

    if isinstance(named, HubModel):
        return fetch_model(named, (CONFIG, LABELS, STATISTICS, SCORES, CARD, MODEL), note)
    return fetch_link(named, note)
