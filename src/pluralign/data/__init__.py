"""Ratings, pairs and comparisons: reading, checking, splitting by group, converting between shapes.

    files, folders, hub sets ──► load_ratings, load_pairs, load_comparisons ──► datasets.Dataset
                                          │                        │
                                  split, folds (by group)   conversions between shapes

Nothing here depends on models. `datasets` and `pyarrow` are imported on first use.
"""

from __future__ import annotations

from pluralign.data.agreement import grid_step, krippendorff_alpha
from pluralign.data.bridges import pairs_from_ratings, ratings_from_votes, weighted_pairs
from pluralign.data.distinct import DistinctConversations, distinct_conversations
from pluralign.data.given import check_table
from pluralign.data.leaks import SharedTexts, TextRecord, join_groups, shared_texts, text_record
from pluralign.data.loading import (
    detect_shape,
    load_comparisons,
    load_pairs,
    load_ratings,
    load_responses,
)
from pluralign.data.messages import conversation
from pluralign.data.problems import Problem
from pluralign.data.response_stream import response_columns, stream_responses
from pluralign.data.splits import deal_groups, folds, folds_of_tables, split, split_tables
from pluralign.data.summary import Summary, summarise
from pluralign.data.tables import LoadReport, read_table
from pluralign.data.unread import UnreadColumn, flags_for, unread_judgements

__all__ = [
    "DistinctConversations",
    "LoadReport",
    "Problem",
    "SharedTexts",
    "Summary",
    "TextRecord",
    "UnreadColumn",
    "check_table",
    "conversation",
    "deal_groups",
    "detect_shape",
    "distinct_conversations",
    "flags_for",
    "folds",
    "folds_of_tables",
    "grid_step",
    "join_groups",
    "krippendorff_alpha",
    "load_comparisons",
    "load_pairs",
    "load_ratings",
    "load_responses",
    "pairs_from_ratings",
    "ratings_from_votes",
    "read_table",
    "response_columns",
    "shared_texts",
    "split",
    "split_tables",
    "stream_responses",
    "summarise",
    "text_record",
    "unread_judgements",
    "weighted_pairs",
]
