"""Texts that name a checkpoint on the network: what they mean, what is wrong with them, and what is shown of them."""

from __future__ import annotations

import pytest

from utils.errors import UserError
from utils.fetching.references import HubModel, Link, is_reference, parse, shown
from utils.results.run_folder import find_checkpoint

D = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("hf://owner/name", HubModel("owner/name", None)),
        ("HF://Own-er/na.me_2/", HubModel("Own-er/na.me_2", None)),
        ("hf://owner/name@v1.0", HubModel("owner/name", "v1.0")),
        ("hf://owner/name@refs/pr/7", HubModel("owner/name", "refs/pr/7")),
        ("hf://owner/name@team@home/branch", HubModel("owner/name", "team@home/branch")),
    ],
)
def test_models_of_the_hub(text, model) -> None:
    assert is_reference(text) and parse(text) == model


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (f"https://host/a/b.ckpt#sha256={D}", "https://host/a/b.ckpt"),
        (f"HTTPS://host:8443/b?x=1&y=/2#SHA256={D.upper()}", "https://host:8443/b?x=1&y=/2"),
        (f"https://host#sha256={D}", "https://host/"),
        (f"https://host/ä b%20c#sha256={D}", "https://host/%C3%A4%20b%20c"),
        (f"https://[2001:db8::1]:1/b#sha256={D}", "https://[2001:db8::1]:1/b"),
        (f"http://localhost:8000/b#sha256={D}", "http://localhost:8000/b"),
    ],
)
def test_links(text, url) -> None:
    link = parse(text)
    assert isinstance(link, Link) and (link.url, link.sha256, link.authorization) == (url, D, "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hf://name", "write hf://owner/name"),
        ("hf://owner/name/model.safetensors", "write hf://owner/name"),
        ("hf://owner/", "write hf://owner/name"),
        ("hf://../name", "'..' cannot be a name on the hub"),
        ("hf://owner/a--b", "'a--b' cannot be"),
        ("hf://owner/n\x1bame", "cannot be a name on the hub"),
        ("hf://owner/name@", "'' cannot be a revision"),
        ("hf://owner/name@../../x", "cannot be a revision"),
        ("hf://owner/name@a b", "cannot be a revision"),
        ("hf:/owner/name", "two slashes"),
        (f"https:/host/b#sha256={D}", "pathlib.Path"),
        ("https://host/b.ckpt", "#sha256=<64 digits>"),
        ("https://host/b.ckpt#sha256", "sha256sum FILE"),
        ("https://host/b.ckpt#md5=abc", "#sha256=<64 digits>"),
        (f"https://host/b.ckpt#sha256={D[1:]}", "(63 characters) is no SHA-256"),
        (f"https://host/b.ckpt#sha256={D[1:]}g", "is no SHA-256"),
        (f"https:///b#sha256={D}", "not an address"),
        (f"https://host:port/b#sha256={D}", "not an address"),
        (f"https://[host/b#sha256={D}", "not an address"),
        (f"http://host/b#sha256={D}", "not encrypted"),
        (f"https://host/\udcff#sha256={D}", "no text"),
        (f"https://m\udce9:x@host/b#sha256={D}", "no text"),
        ("s3://bucket/b.ckpt", "s3:// is not fetched"),
        ("file:///b.ckpt", "--checkpoint takes a file, a published folder"),
    ],
)
def test_what_is_wrong_is_one_line(text, words, tmp_path) -> None:
    with pytest.raises(UserError) as caught:
        find_checkpoint(text, tmp_path)
    assert words in str(caught.value) and str(caught.value).isprintable()


def test_secrets_are_neither_shown_nor_kept_in_sight() -> None:
    text = f"https://me:SECRET@host/b?key=SECRET#sha256={D}"
    link = parse(text)
    assert "SECRET" not in f"{link} {link!r} {shown(text)}" and str(link) == "https://host/b?..."
    unescaped = [f"https://me:SEC{char}RET:SECRET@host/b#sha256={D}" for char in "/?#"]
    for wrong in (
        text[:-1],
        "https://me:SECRET@host:x/b?SECRET",
        "s3://me:SECRET@b/c",
        "hf://SECRET@owner/name",
        *unescaped,
    ):
        with pytest.raises(UserError) as caught:
            parse(wrong)
        assert "SEC" not in str(caught.value)
    assert shown(f"https://[::1]:8/a@1?x#sha256={D}") == "https://[::1]:8/a@1?..."
    assert shown("https://host:8443/a@1") == "https://host:8443/a@1"


@pytest.mark.parametrize("path", ["best", "a/b.ckpt", "/a/b.ckpt", "C:/a", "a:b", "run=1:2.ckpt", "~/x"])
def test_paths_are_no_references(path) -> None:
    assert not is_reference(path)
