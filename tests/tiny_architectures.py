"""Tiny configurations of the causal language models of transformers: `tiny_config(model_type, vocab_size)`.

One entry per architecture, with two to four layers of width 32, and every special layer that it has
(experts, convolutions, recurrences, windows that are shorter than a test's texts). `tiny_model` fills one
with random weights that no initialisation left at 0 or 1, as trained models have them: a leak that runs only
through a bias, or a norm that is the identity, would not show otherwise.
"""

from __future__ import annotations

from typing import Any

import torch

LLAMA: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
HEADED = LLAMA | {"head_dim": 8}
BERT = {name: value for name, value in LLAMA.items() if name != "num_key_value_heads"}
GPT: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "n_ctx": 256}
BART: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 256,
}
WINDOW = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
LATENT = {  # multi-head latent attention
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
ROUTED = {  # DeepSeek's experts
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
MAMBA2 = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
}
DELTA = {  # gated delta net
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
SPARSE = {"mlp_layer_types": ["dense", "sparse"]}

# Another set of frequencies as soon as one position of a call lies beyond SWITCH (Phi 3 with 128k positions).
SWITCH = 48
LONG_ROPE = {
    "original_max_position_embeddings": SWITCH,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": SWITCH,
    },
}

TABLE: dict[str, dict[str, Any]] = {
    "afmoe": HEADED | EXPERTS | WINDOW | {"num_dense_layers": 1, "num_shared_experts": 1},
    "apertus": LLAMA,
    "arcee": HEADED,
    "aria_text": HEADED | {"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1},
    "bamba": LLAMA | MAMBA2 | {"attn_layer_indices": [1]},
    "bart": BART,
    "bert": BERT | {"is_decoder": True},
    "bert-generation": BERT | {"is_decoder": True},
    "big_bird": BERT | {"is_decoder": True, "attention_type": "original_full"},
    "bigbird_pegasus": BART | {"attention_type": "original_full"},
    "biogpt": BERT,
    "bitnet": LLAMA,
    "blenderbot": BART,
    "blenderbot-small": BART,
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "hidden_dropout": 0.1, "attention_dropout": 0.1},
    "camembert": BERT | {"is_decoder": True, "pad_token_id": 1},
    "codegen": GPT | {"rotary_dim": 4, "n_head": 4},
    "cohere": LLAMA | {"logit_scale": 0.3},
    "cohere2": HEADED | WINDOW | {"logit_scale": 0.3},
    "ctrl": GPT | {"dff": 48},
    "cwm": HEADED | WINDOW,
    "data2vec-text": BERT | {"is_decoder": True, "pad_token_id": 1},
    "dbrx": {
        "d_model": 32,
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": 256,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": LLAMA | LATENT | ROUTED | {"first_k_dense_replace": 1, "topk_method": "greedy"},
    "deepseek_v3": LLAMA | LATENT | ROUTED | {"first_k_dense_replace": 1},
    "diffllama": HEADED,
    "doge": LLAMA | {"keep_window_size": 512},
    "dots1": HEADED | ROUTED | {"first_k_dense_replace": 1},
    "electra": BERT | {"is_decoder": True, "embedding_size": 32},
    "ernie": BERT | {"is_decoder": True},
    "ernie4_5": HEADED,
    "ernie4_5_moe": LLAMA
    | {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16, "moe_layer_start_index": 1},
    "exaone4": LLAMA | WINDOW,
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_hidden_size": 48},
    "falcon_h1": LLAMA | MAMBA2 | {"mamba_d_ssm": 64},
    "falcon_mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "intermediate_size": 48},
    "flex_olmo": LLAMA | {"num_experts": 4, "num_experts_per_tok": 2},
    "gemma": HEADED,
    "gemma2": HEADED | WINDOW | {"final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8},
    "gemma3_text": HEADED | WINDOW | {"query_pre_attn_scalar": 8},
    "gemma3n_text": HEADED
    | WINDOW
    | {
        "intermediate_size": [48, 48],
        "vocab_size_per_layer_input": 64,
        "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 0,
        "altup_num_inputs": 2,
        "laurel_rank": 4,
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "gemma4_text": HEADED
    | WINDOW
    | {
        "vocab_size_per_layer_input": 64,
        "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 0,
        "global_head_dim": 16,
    },
    "glm": HEADED,
    "glm4": HEADED,
    "glm4_moe": HEADED | ROUTED | {"first_k_dense_replace": 1},
    "glm4_moe_lite": LLAMA | LATENT | ROUTED | SPARSE,
    "gpt2": GPT,
    "gpt-sw3": GPT,
    "gpt_bigcode": GPT,
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "max_position_embeddings": 256,
        "window_size": 8,
        "attention_types": [[["global", "local"], 1]],
    },
    "gpt_neox": BERT,
    "gpt_neox_japanese": BERT,
    "gpt_oss": HEADED | LOCAL_EXPERTS | WINDOW,
    "gptj": GPT | {"rotary_dim": 4},
    "granite": LLAMA | {"logits_scaling": 3.0},
    "granitemoe": LLAMA | LOCAL_EXPERTS,
    "granitemoehybrid": LLAMA
    | LOCAL_EXPERTS
    | MAMBA2
    | {"shared_intermediate_size": 16, "layer_types": ["mamba", "attention"]},
    "granitemoeshared": LLAMA | LOCAL_EXPERTS | {"shared_intermediate_size": 16},
    "helium": HEADED,
    "hunyuan_v1_dense": HEADED,
    "hunyuan_v1_moe": HEADED | {"num_experts": 4, "moe_topk": 2},
    "jais2": HEADED,
    "jamba": LLAMA
    | {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "jetmoe": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "kv_channels": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 256,
    },
    "lfm2": LLAMA | {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": LLAMA | EXPERTS | {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "llama": LLAMA,
    "llama4_text": HEADED
    | LOCAL_EXPERTS
    | {"num_experts_per_tok": 1, "intermediate_size_mlp": 48, "attention_chunk_size": 16},
    "longcat_flash": {
        "hidden_size": 32,
        "ffn_hidden_size": 48,
        "expert_ffn_hidden_size": 16,
        "num_layers": 2,
        "num_attention_heads": 4,
        "moe_topk": 2,
        "n_routed_experts": 4,
        "zero_expert_num": 2,
        "max_position_embeddings": 256,
        "head_dim": 8,
    }
    | LATENT,
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "mamba2": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_heads": 8,
        "head_dim": 8,
        "state_size": 8,
        "n_groups": 1,
        "chunk_size": 16,
    },
    "marian": BART,
    "mbart": BART,
    "megatron-bert": BERT | {"is_decoder": True},
    "minimax": HEADED
    | LOCAL_EXPERTS
    | {"layer_types": ["linear_attention", "full_attention"], "block_size": 16},
    "minimax_m2": HEADED | LOCAL_EXPERTS,
    "ministral": HEADED | WINDOW,
    "ministral3": HEADED,
    "mistral": HEADED | {"sliding_window": 8},
    "mixtral": HEADED | LOCAL_EXPERTS | {"router_jitter_noise": 0.1},
    "modernbert-decoder": BERT | {"local_attention": 16, "global_attn_every_n_layers": 2, "pad_token_id": 1},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256, "expansion_ratio": 2},
    "mvp": BART,
    "nanochat": LLAMA,
    "nemotron": LLAMA,
    "nemotron_h": HEADED
    | {
        "layers_block_type": ["mamba", "attention", "mlp", "mamba"],
        "num_hidden_layers": 4,
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "n_groups": 1,
        "ssm_state_size": 8,
        "chunk_size": 16,
        "use_mamba_kernels": False,
    },
    "olmo": LLAMA,
    "olmo2": LLAMA,
    "olmo3": LLAMA | WINDOW,
    "olmo_hybrid": LLAMA | DELTA,
    "olmoe": LLAMA | {"num_experts": 4, "num_experts_per_tok": 2},
    "openai-gpt": GPT,
    "opt": {
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
    },
    "pegasus": BART,
    "persimmon": BERT,
    "phi": LLAMA,
    "phi3": LLAMA,
    "phimoe": LLAMA | LOCAL_EXPERTS | {"router_jitter_noise": 0.1, "input_jitter_noise": 0.1},
    "plbart": BART,
    "qwen2": LLAMA,
    "qwen2_moe": LLAMA | EXPERTS | {"shared_expert_intermediate_size": 16},
    "qwen3": HEADED,
    "qwen3_5_text": HEADED | DELTA,
    "qwen3_moe": HEADED | EXPERTS,
    "qwen3_next": HEADED | EXPERTS | DELTA | {"shared_expert_intermediate_size": 16},
    "recurrent_gemma": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "lru_width": 32,
        "attention_window_size": 8,
    },
    "rembert": BERT | {"is_decoder": True, "input_embedding_size": 16, "output_embedding_size": 16},
    "roberta": BERT | {"is_decoder": True, "pad_token_id": 1},
    "roberta-prelayernorm": BERT | {"is_decoder": True, "pad_token_id": 1},
    "roc_bert": BERT | {"is_decoder": True, "pronunciation_vocab_size": 8, "shape_vocab_size": 8},
    "roformer": BERT | {"is_decoder": True, "embedding_size": 32},
    "rwkv": {
        "hidden_size": 32,
        "attention_hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 48,
        "context_length": 256,
    },
    "seed_oss": HEADED,
    "smollm3": LLAMA,
    "solar_open": HEADED | ROUTED,
    "stablelm": LLAMA,
    "starcoder2": LLAMA | {"sliding_window": 8},
    "trocr": BART | {"hidden_size": 32},
    "vaultgemma": HEADED | WINDOW | {"query_pre_attn_scalar": 8},
    "xglm": {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4},
    "xlm-roberta": BERT | {"is_decoder": True, "pad_token_id": 1},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
    "zamba": LLAMA
    | {
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "num_hidden_layers": 4,
        "n_mamba_heads": 2,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "zamba2": LLAMA
    | {
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "mamba", "hybrid", "mamba"],
        "mamba_d_state": 8,
        "mamba_ngroups": 1,
        "n_mamba_heads": 8,
        "chunk_size": 16,
        "use_mamba_kernels": False,
        "num_mem_blocks": 1,
        "adapter_rank": 8,
    },
}


def _known(model_type: str) -> bool:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and model_type in CONFIG_MAPPING


NAMES: list[str] = [name for name in TABLE if _known(name)]  # those of the installed transformers


def tiny_config(model_type: str, vocab_size: int = 64, **others: Any) -> Any:
    """The tiny configuration of an architecture, with special tokens 0 (begin), 1 (end) and no padding."""
    from transformers import CONFIG_MAPPING

    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    options = special | TABLE[model_type] | {"vocab_size": vocab_size} | others
    if "vocab_size_per_layer_input" in options:
        options["vocab_size_per_layer_input"] = vocab_size
    return CONFIG_MAPPING[model_type](**options)


def tiny_model(model_type: str, vocab_size: int = 64, seed: int = 0, **others: Any) -> Any:
    """A causal language model of the architecture with random weights and biases, in evaluation mode."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(model_type, vocab_size, **others))
    return roughen(model, seed).eval()


@torch.no_grad()
def roughen(model: Any, seed: int = 0) -> Any:
    """The model with weights that matter: larger matrices, and all other numbers moved."""
    random = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=random).to(parameter.dtype)
        if parameter.ndim < 2:
            parameter += 0.1 * noise
        elif float(parameter.std()) < 0.1:
            parameter += 0.15 * noise
    return model
