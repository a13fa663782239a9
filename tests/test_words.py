"""The form of docstrings in the product and the helpers of its tests, and the words of all texts in the product.

A docstring starts with one paragraph that ends with a period. A function or method starts with a verb in the third
person ("Returns ..."), a module, class or property with a noun phrase or a sentence. None begins with an ellipsis
("That of ...") or contains the riddles that are listed below; nor do comments and messages.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PRODUCT = ("commands", "dataloader", "examples", "main.py", "network", "predict.py", "robust_test.py", "tools", "utils")

ELLIPSES = re.compile(r"(That|Those|This|These|As|Of|What|Where|How|Whether|When|Which|Who|Whose|By|From|For|To|If) ")
THIRD_PERSON = re.compile(r"(?!As |Is |Its |This |Does |Keys |Axes )[A-Z][a-z]+s\b")
RIDDLES = re.compile(
    r"\b(anew|afresh|mend(s|ed|ing)?|for want of|be (it|they) ever so|not run so far|betrays?|that can be\.)",
    re.IGNORECASE,
)

Documented = ast.Module | ast.ClassDef | ast.FunctionDef


def files_of(place: str) -> list[Path]:
    """Lists the Python files of a file or folder, given from the root of the repository."""
    path = ROOT / place
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def is_property(node: Documented) -> bool:
    """Returns whether a function is read like an attribute."""
    names = {ast.unparse(d) for d in node.decorator_list} if isinstance(node, ast.FunctionDef) else set()
    return bool(names & {"property", "cached_property"})


def is_setter(node: Documented) -> bool:
    """Returns whether a function sets a property; the docstring belongs to the property."""
    return isinstance(node, ast.FunctionDef) and any(ast.unparse(d).endswith(".setter") for d in node.decorator_list)


def is_hook(node: Documented) -> bool:
    """Returns whether a method is a hook of Lightning, which documents it."""
    return isinstance(node, ast.FunctionDef) and node.name.startswith("on_")


def public(tree: ast.Module) -> Iterator[tuple[str, Documented]]:
    """Yields the module, its public classes and functions, and the public methods of these classes, by name."""
    yield "module", tree
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method


def everything(tree: ast.Module) -> Iterator[tuple[str, Documented]]:
    """Yields all that has a docstring, private functions and classes included, with their names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            yield getattr(node, "name", "module"), node


def faults(node: Documented) -> list[str]:
    """Lists what is wrong with the words of a docstring."""
    text = ast.get_docstring(node) or ""
    opening = text.split("\n\n")[0]
    found = []
    if not opening.endswith("."):
        found.append("the first paragraph does not end with a period")
    if ELLIPSES.match(opening):
        found.append("it begins with an ellipsis")
    if isinstance(node, ast.FunctionDef) and not is_property(node) and not THIRD_PERSON.match(opening):
        found.append("it does not begin with a verb in the third person")
    if riddle := RIDDLES.search(text):
        found.append(f"a riddle: {riddle[0]}")
    return found


@pytest.mark.parametrize("place", (*PRODUCT, "tests/support"))
def test_docstrings_say_what_things_are(place) -> None:
    found = []
    for file in files_of(place):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        name = file.relative_to(ROOT).as_posix()
        found += [
            f"{name}: {of} has no docstring"
            for of, node in public(tree)
            if not ast.get_docstring(node) and not is_hook(node) and not is_setter(node)
        ]
        found += [f"{name}: {of}: {fault}" for of, node in everything(tree) for fault in faults(node)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("place", PRODUCT)
def test_comments_and_messages_hold_no_riddles(place) -> None:
    found = [
        f"{file.relative_to(ROOT).as_posix()}:{number}: {riddle[0]}"
        for file in files_of(place)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if (riddle := RIDDLES.search(line))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("docstring", "fault"),
    [
        ("That of the 3D network.", "it begins with an ellipsis"),
        ("As of any module; the weights are dropped.", "it begins with an ellipsis"),
        ("Whether a device can run it.", "it begins with an ellipsis"),
        ("Build a network.", "it does not begin with a verb in the third person"),
        ("(P, K) logits.", "it does not begin with a verb in the third person"),
        ("Returns the scans", "the first paragraph does not end with a period"),
        ("Returns the batch.\n\nFor want of room it is dropped.", "a riddle: For want of"),
    ],
)
def test_faults_are_found(docstring, fault) -> None:
    node = ast.parse(f"def function():\n    {docstring!r}\n").body[0]
    assert isinstance(node, ast.FunctionDef) and fault in faults(node)


def test_good_words_pass() -> None:
    source = """
class Pool:
    "A frozen record of groups."

    def mean(self):
        "Computes the mean, (V, C) -> (G, C)."

    @property
    def size(self):
        "The number of groups."
"""
    tree = ast.parse(source)
    assert not [fault for _, node in everything(tree) for fault in faults(node)]
