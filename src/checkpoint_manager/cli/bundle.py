"""What ``export`` and ``import`` share: the key of a bundle, and the description of one."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from checkpoint_manager._text import counted
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.key_options import Source, ask_passphrase, source_option
from checkpoint_manager.cli.output import show_size

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.credentials import KeyFile, Passphrase
    from checkpoint_manager.reports import BundleSummary

STREAM = "-"
bundle_key_option = source_option("--bundle-key", "The bundle's own key, as for --key. Without it, a passphrase is asked for.")


def key_of_bundle(access: Access, source: Source | None, *, new: bool) -> KeyFile | Passphrase:
    """Return the key of a bundle; with ``new``, a key file that does not exist is made."""
    if source is not None:
        made = "the bundle opens with nothing else; send it another way than the bundle"
        return access.read_key(source, "Passphrase of the bundle", new=new, created=made)
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for the bundle's passphrase",
            hint="Give --bundle-key, for example --bundle-key passphrase-file:PATH",
        )
    return ask_passphrase("Passphrase of the bundle", twice=new)


def bundle_fields(bundle: BundleSummary, *names: str) -> dict[str, object]:
    """Return a bundle as it stands in a JSON document."""
    stages = [{name: value for name, value in asdict(stage).items() if name in names} for stage in bundle.stages]
    return {"bytes": bundle.size, "versions": bundle.versions, "stages": stages}


def bundle_summary(bundle: BundleSummary, versions: str) -> str:
    """Return what was exported or imported, in a sentence."""
    tags = sum(len(stage.tags) for stage in bundle.stages)
    tagged = f" and {counted(tags, 'tag')}" if tags else ""
    return f"{counted(len(bundle.stages), 'stage')}, {versions}{tagged}, {show_size(bundle.size)}"
