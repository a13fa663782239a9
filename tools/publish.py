"""Makes a folder of a trained network to share: safetensors weights, config, classes, statistics, scores, model card.

    python tools/publish.py --log_dir demo --checkpoint best --output street --dtype bf16 --license mit
    python main.py --test --checkpoint street --num_vote 4
    python tools/publish.py --checkpoint street --output street --overwrite --scores logs/SemanticKITTI/default/test_*

`--checkpoint` of every program takes such a folder. It holds what a test needs: no optimiser, no camera branch, no path
of this machine. Scores are taken from tests of this very checkpoint, or of the folder once it is there (--overwrite).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":  # before what takes seconds to import
    if not __package__:  # run as a file, and not with -m
        import _root  # noqa: F401
    from utils.command.start import begin

    begin()

from network.weights.configuration import Tested, open_for_test
from network.weights.description import read_description
from network.weights.published_copies import copies
from network.weights.published_folder import OURS, serialized
from network.weights.reading import read_outline
from tools.publishing.about import CARD_KEY, About
from tools.publishing.card import Model, card_text
from tools.publishing.folder import refuse_place, write_folder
from tools.publishing.origin import ORIGIN, Origin
from tools.publishing.scores import Scores, kept_scores, read_scores, scores_text
from utils.command.flags import Parser
from utils.command.importing import importing
from utils.command.process import run_command
from utils.command.terminal import say
from utils.errors import UserError
from utils.fetching.references import FORMS
from utils.paths import expand_home
from utils.results.published import CARD, MODEL
from utils.results.run_folder import SCORES

DTYPES = ("fp32", "bf16", "fp16")


def build_parser() -> Parser:
    """Builds the parser of this program."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="NAME", help=f"what to publish: {FORMS}")
    add("--log_dir", default="default", metavar="NAME", help="name of the run: logs/<dataset>/<NAME>")
    config = "the experiment, of a checkpoint that does not hold its own"
    add("--config", metavar="YAML", help=config)
    add("--output", required=True, type=Path, metavar="FOLDER", help="the folder to make")
    add("--scores", nargs="+", type=Path, default=[], metavar="FILE", help="scores.json of tests of this checkpoint")
    types = "type of the weights (not of vectors and statistics, which stay as they are); default: as they are"
    add("--dtype", choices=DTYPES, help=types)
    add("--name", metavar="TEXT", help="name of the model on its card; default: that of the folder")
    add("--data", metavar="TEXT", help="what it was trained on, for the card; default: the kind of the data set")
    licence = "licence of the weights, an identifier of the hub such as mit; default: other, to be chosen"
    add("--license", metavar="ID", help=licence)
    add("--overwrite", action="store_true", help="replace the files of a folder that this tool made; others stay")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    flags = build_parser().parse_args(arguments)
    return run_command(lambda: publish(flags))


def publish(flags: argparse.Namespace) -> None:
    """Makes the folder.

    Raises:
        UserError: the checkpoint cannot be published, the scores are not of it, or something else is in the way.
    """
    output = expand_home(flags.output)
    refuse_place(output, flags.overwrite)
    tested = open_for_test(flags.checkpoint, flags.log_dir, flags.config, (), say)
    if flags.config is not None and tested.description is not None:
        raise UserError(f"--config: {tested.path} holds the config of its training; leave it out")
    outline = read_outline(tested.path)
    said = About.of(outline.get(OURS) or {})
    given = {"name": flags.name, "data": flags.data, "license": flags.license}
    about = About(**{"name": output.resolve().name, **said, **{k: v for k, v in given.items() if v is not None}})
    origin = Origin.of(outline)
    _read_all(flags.scores, tested, origin, exact=True)  # before torch is imported
    with importing():
        from tools.publishing.weights import digest_of, is_exact, read_weights, rounded

    before, ours = read_weights(tested)
    weights = rounded(before, flags.dtype, tested.path)
    exact = is_exact(before, weights)
    digest = digest_of(weights)
    scores = _read_all(flags.scores, tested, origin, exact)
    if not scores and exact and tested.path.parent.resolve() == output.resolve():
        scores = kept_scores(output, tested.classes.names[1:], digest)
    origin = origin.of_published(tested.sha256, "" if exact else flags.dtype)
    ours = {**ours, ORIGIN: origin.record(), CARD_KEY: asdict(about)}
    content = serialized(weights, ours)
    description = read_description({OURS: ours}, tested.path)
    assert description is not None
    values = sum(tensor.numel() for tensor in weights.values())
    card = card_text(Model(about, ours, description, origin, scores, values, len(content)))
    files = {MODEL: content, **copies({OURS: ours}, tested.path), CARD: card}
    if scores:
        files[SCORES] = scores_text(scores, digest)
    write_folder(output, {name: text if isinstance(text, bytes) else text.encode() for name, text in files.items()})
    print(f"{output}: {len(content) / 1e6:.2f} MB of weights, {len(files)} files; {_about_scores(scores, output)}")


def _read_all(paths: Sequence[Path], tested: Tested, origin: Origin, exact: bool) -> list[Scores]:
    """Reads the scores of several tests; see `read_scores`.

    Raises:
        UserError: those of one test are given twice.
    """
    found: list[Scores] = []
    for path in paths:
        scores = read_scores(path, tested, origin, exact)
        if scores in found:
            raise UserError(f"--scores: {path} is of a test that was named before; name each once")
        found.append(scores)
    return found


def _about_scores(scores: Sequence[Scores], output: Path) -> str:
    if scores:
        return "; ".join(
            f"mIoU {100 * s.miou:.2f} %, {s.conditions.views_text}, measured on "
            f"{'these weights' if s.same_weights else 'the weights before they were rounded'}"
            for s in scores
        )
    return f"no scores: test it (main.py --test --checkpoint {output}) and give its scores.json to --scores"


if __name__ == "__main__":
    sys.exit(main())
