"""What plug-ins there are, and what each can do."""

from __future__ import annotations

import click
from rich.console import Console

from engine.options import WIDTH


@click.command("list")
def list_() -> None:
    """List methods, protocols, encoders and datasets."""
    from engine.show import listing

    Console(width=WIDTH).print(listing())


@click.command()
@click.argument("name")
def describe(name: str) -> None:
    """Show what a plug-in is, its settings with their sources, presets and ablations."""
    from engine.show import description

    Console(width=WIDTH).print(description(name))
