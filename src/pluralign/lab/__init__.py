"""A simulated crowd whose true distribution of reward is known, for oracles, demos and studies.

`Crowd(seed=0)` draws ratings, votes and pairs, and computes the exact distribution for any text. Texts come
from `world` and `grammar` and are read by `parser`; `personas` judge them, and `truth` has the closed forms.
Policies start from a tiny `language_model`, and `outcomes` measures their samples.
"""

from pluralign.lab.crowd import Crowd
from pluralign.lab.grammar import STYLES
from pluralign.lab.language_model import LanguageModelConfig, cached_language_model, train_language_model
from pluralign.lab.outcomes import Samples, alignment_record, measure_samples, summarise_samples
from pluralign.lab.parser import TRAITS, Traits, parse, parse_prompt, read
from pluralign.lab.personas import ATTRIBUTES, PERSONAS, POPULATION, Persona
from pluralign.lab.policies import sample_policy
from pluralign.lab.tokenizer import build_tokenizer
from pluralign.lab.truth import CATEGORIES, CATEGORY_REWARDS
from pluralign.lab.world import KINDS, PROMPTS, VOCABULARY, Request

__all__ = [
    "ATTRIBUTES",
    "CATEGORIES",
    "CATEGORY_REWARDS",
    "KINDS",
    "PERSONAS",
    "POPULATION",
    "PROMPTS",
    "STYLES",
    "TRAITS",
    "VOCABULARY",
    "Crowd",
    "LanguageModelConfig",
    "Persona",
    "Request",
    "Samples",
    "Traits",
    "alignment_record",
    "build_tokenizer",
    "cached_language_model",
    "measure_samples",
    "parse",
    "parse_prompt",
    "read",
    "sample_policy",
    "summarise_samples",
    "train_language_model",
]
