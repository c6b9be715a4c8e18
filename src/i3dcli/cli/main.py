"""The group of all commands."""

from __future__ import annotations

import click

from .. import __version__
from .evaluate import evaluate
from .extract_flow import extract_flow
from .gate import ErrorGate
from .inflate import inflate
from .predict import predict
from .train import train


@click.group(cls=ErrorGate, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="i3d")
def main() -> None:
    """Classify what happens in a video with two-stream I3D: RGB and TV-L1 optical flow."""


for command in (predict, extract_flow, inflate, train, evaluate):
    main.add_command(command)
