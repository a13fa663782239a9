"""The pages of docs/reference/ and the functions that write them."""

from __future__ import annotations

from collections.abc import Callable

from tools.documenting.commands_page import commands_page
from tools.documenting.config_page import config_page
from tools.documenting.corruptions_page import corruptions_page
from tools.documenting.data_sets_page import data_sets_page
from tools.documenting.models_page import models_page
from tools.documenting.rooms_page import rooms_page

PAGES: dict[str, Callable[[], str]] = {
    "config.md": config_page,
    "commands.md": commands_page,
    "models.md": models_page,
    "data-sets.md": data_sets_page,
    "corruptions.md": corruptions_page,
    "rooms.md": rooms_page,
}
"""File in docs/reference/ -> function that writes its text."""
