"""Engines: the same work on rows in this process, or on many workers with Ray Data.

    source ─► rows on disk, in shards ─► ScoreRows | EmbedRows | SampleRows ─► finished shards ─► one result
              stored_rows                 in this process (local) or on workers (ray_data)

A stage (`scores`, `embeddings`, `samples`) is an object that turns a batch of rows into a batch of results;
it knows no engine, and Ray Data's `map_batches` takes it as it is. A job (`jobs`) has a stage, rows and a
folder of finished shards, each of which is on disk whole or not at all. So any engine continues what another
began, and all write the same.
"""

from __future__ import annotations

from pluralign.engines.embeddings import EmbedRows, backbone_identity, embed_stage
from pluralign.engines.jobs import Engine, Job, ShardWorker, finish
from pluralign.engines.local import LocalEngine
from pluralign.engines.ray_data import RayEngine
from pluralign.engines.samples import SampleRows, prompt_rows, sample_stage
from pluralign.engines.scores import ScoreRows, model_identity, score_stage
from pluralign.engines.stages import Batch, RowFunction, Stage
from pluralign.engines.stored_rows import StoredRows, read_stored_rows, store_rows

__all__ = [
    "Batch",
    "EmbedRows",
    "Engine",
    "Job",
    "LocalEngine",
    "RayEngine",
    "RowFunction",
    "SampleRows",
    "ScoreRows",
    "ShardWorker",
    "Stage",
    "StoredRows",
    "backbone_identity",
    "embed_stage",
    "finish",
    "model_identity",
    "prompt_rows",
    "read_stored_rows",
    "sample_stage",
    "score_stage",
    "store_rows",
]
