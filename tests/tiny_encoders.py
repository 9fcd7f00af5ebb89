"""Tiny configurations of the text encoders of transformers: `encoder_config(name, vocab_size)`.

As `tiny_architectures` for causal language models; `roughen` from there fills in weights that matter.
"""

from __future__ import annotations

from typing import Any

BERT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 160,
    "pad_token_id": 0,
}
ROBERTA = BERT | {"type_vocab_size": 1}
EMBEDDED = BERT | {"embedding_size": 32}
XLM: dict[str, Any] = {
    "emb_dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 160,
    "pad_index": 0,
    "pad_token_id": 0,  # without a mask these models take it from the tokens that are no padding
    "bos_index": 2,
    "eos_index": 3,
}
DISTANCES = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}

ENCODERS: dict[str, dict[str, Any]] = {
    "albert": EMBEDDED,
    "bert": BERT,
    "big_bird": BERT | {"attention_type": "original_full"},
    "camembert": ROBERTA,
    "canine": BERT | {"downsampling_rate": 4, "local_transformer_stride": 16},
    "convbert": EMBEDDED | {"conv_kernel_size": 3, "head_ratio": 2},
    "data2vec-text": ROBERTA,
    "deberta": BERT | DISTANCES,
    "deberta-v2": BERT | DISTANCES,
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 160},
    "electra": EMBEDDED,
    "ernie": BERT,
    "esm": BERT | {"mask_token_id": 1, "position_embedding_type": "rotary", "token_dropout": True},
    "eurobert": BERT | {"num_key_value_heads": 2},
    "flaubert": XLM,
    "fnet": BERT,
    "funnel": {
        "d_model": 32,
        "n_head": 4,
        "d_head": 8,
        "d_inner": 48,
        "block_sizes": [1, 1],
        "num_decoder_layers": 1,
        "architectures": ["FunnelModel"],
    },
    "gte": BERT,
    "ibert": ROBERTA,
    "jina_embeddings_v3": BERT,
    "layoutlm": BERT,
    "lilt": BERT | {"hidden_size": 48, "channel_shrink_ratio": 4},
    "longformer": ROBERTA | {"attention_window": [8, 8]},
    "luke": ROBERTA | {"entity_vocab_size": 4, "entity_emb_size": 8},
    "markuplm": BERT,
    "megatron-bert": BERT,
    "mobilebert": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "embedding_size": 16,
        "intra_bottleneck_size": 16,
        "max_position_embeddings": 160,
        "pad_token_id": 0,
    },
    "modernbert": BERT | {"local_attention": 8, "global_attn_every_n_layers": 2},
    "mpnet": BERT,
    "mra": BERT,
    "nomic_bert": BERT,
    "nystromformer": BERT | {"num_landmarks": 8, "segment_means_seq_len": 64},
    "perceiver": {"d_model": 32, "d_latents": 32, "num_latents": 8},
    "reformer": {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "attention_head_size": 8,
        "feed_forward_size": 48,
        "attn_layers": ["local", "lsh"],
        "num_buckets": 4,
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
        "axial_pos_embds": False,
        "is_decoder": False,
        "max_position_embeddings": 160,
    },
    "rembert": BERT | {"input_embedding_size": 16},
    "roberta": ROBERTA,
    "roberta-prelayernorm": ROBERTA,
    "roc_bert": BERT | {"pronunciation_vocab_size": 210, "shape_vocab_size": 210},
    "roformer": EMBEDDED,
    "splinter": BERT,
    "squeezebert": EMBEDDED,
    "xlm": XLM,
    "xlm-roberta": ROBERTA,
    "xlm-roberta-xl": ROBERTA,
    "xmod": ROBERTA | {"default_language": "en_XX", "languages": ["en_XX"]},
    "yoso": BERT | {"use_expectation": True},
}


def encoder_config(name: str, vocab_size: int) -> Any:
    """The tiny configuration of an encoder."""
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[name](**(ENCODERS[name] | {"vocab_size": vocab_size}))
