"""Backbones: text in, embeddings out.

    from pluralign.backbones import EmbeddingCache, load

    backbone = load("minilm")
    embeddings = backbone.embed(conversations, cache=EmbeddingCache())

Any Hugging Face encoder or decoder works; each distinct text is run once per call, or only once ever with a
cache. Under `accelerate launch` or `torchrun` the same lines use every GPU of the machine.
"""

from __future__ import annotations

from pluralign.backbones.backbone import Backbone
from pluralign.backbones.cache import EmbeddingCache
from pluralign.backbones.config import BackboneConfig
from pluralign.backbones.embeddings import Embeddings, EmbeddingStats
from pluralign.backbones.load import load, load_tuned
from pluralign.backbones.threads import choose_num_threads, torch_threads, use_idle_cores

__all__ = [
    "Backbone",
    "BackboneConfig",
    "EmbeddingCache",
    "EmbeddingStats",
    "Embeddings",
    "choose_num_threads",
    "load",
    "load_tuned",
    "torch_threads",
    "use_idle_cores",
]
