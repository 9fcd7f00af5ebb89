"""Tables handed over in memory are checked before anything is made of them."""

from __future__ import annotations

import datasets
import pytest

from pluralign.data import check_table
from pluralign.errors import ArgumentError, DataError

PAIRS = datasets.Dataset.from_dict(
    {"id": ["a"], "prompt": [[]], "chosen": ["x"], "rejected": ["y"], "subset": [""], "group": ["g"]}
)


@pytest.mark.parametrize("given", [[{"response": "x"}], "ratings.jsonl", 3, {"response": ["x"]}])
def test_what_is_not_a_data_set_names_the_loader(given):
    with pytest.raises(ArgumentError, match="pass what load_ratings returns"):
        check_table("ratings", given)


def test_another_shape_and_no_rows():
    check_table("pairs", PAIRS)
    with pytest.raises(DataError, match="ratings: no column attribute, ratings, response, scale"):
        check_table("ratings", PAIRS)
    with pytest.raises(DataError, match="no rows"):
        check_table("pairs", PAIRS.select([]))
