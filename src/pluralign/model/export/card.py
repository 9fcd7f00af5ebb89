"""The model card of an exported checkpoint: what it returns, the shift, how exact it is, how to load it."""

from __future__ import annotations

from pluralign._version import __version__
from pluralign.model.export.facts import ExportFacts, Written

__all__ = ["card"]


def card(facts: ExportFacts, written: Written, difference: float, checked: int) -> str:
    """The text of `README.md`.

    Args:
        facts: what was exported.
        written: the folder.
        difference: the largest difference to our scores after loading.
        checked: on how many conversations.
    """
    backbone = facts.backbone.config
    exact = (
        f"On {facts.num_references} reference conversations it misses the utility by at most "
        f"{facts.form.gap:.2g}."
        if facts.num_references
        else "It is linear in the backbone's vector, so nothing is lost but rounding."
    )
    added = (
        f"**score = output + {written.shift!r}.** A stock classifier has no bias, so this constant cannot "
        "be stored; it moves all scores alike, and matters only where they are compared with those of "
        "other models or a threshold. It is also in `config.json`, under `pluralign.shift`."
        if written.shift
        else "The output is the score; there is nothing to add."
    )
    return "\n".join(
        [
            "---",
            "tags: [reward-model]",
            "---",
            "",
            f"# `{facts.measure}` of a `{facts.family}` reward model",
            "",
            f"One number per text: the utility `{facts.measure}` of the predicted reward, in units of the "
            f"reference standard deviation; higher is better. {exact} Loaded again, its scores differed by "
            f"at most {difference:.2g} on {checked} conversations (allowed: {facts.tolerance:g}).",
            "",
            added,
            "",
            f"{written.text} Texts of more than {backbone.max_length} tokens are cut by other software in "
            "its own way, so their scores differ.",
            "",
            "```python",
            written.usage,
            "```",
            "",
            f"Backbone: `{backbone.name_or_path}`, fingerprint `{str(facts.backbone.fingerprint)[:16]}`, "
            f"{backbone.dtype}. Exported with pluralign {__version__}.",
            "",
        ]
    )
