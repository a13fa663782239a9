"""stub"""
from __future__ import annotations
import argparse
from utils.scan.alignment import Alignment


def add_alignment_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fit", choices=("warn", "auto", "off"), default="warn")


def alignment_of(args: argparse.Namespace) -> Alignment:
    return Alignment()
