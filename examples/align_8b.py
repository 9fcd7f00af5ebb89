"""QRPO of an 8B model on a node of GPUs, from a table that `pluralign sample` made.

    pluralign sample --prompts prompts.jsonl --model meta-llama/Llama-3.1-8B-Instruct \
        --server http://localhost:8000 --completions 16 --reward_model my-reward-model --risk cvar:0.25 \
        --out runs/references
    accelerate launch --num_processes 8 --use_fsdp --fsdp_version 2 --mixed_precision bf16 \
        --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP examples/align_8b.py

The first command asks a vLLM server for 16 completions per prompt and scores them by the worst quarter of
the predicted rewards. The second trains all weights, sharded. With `ADAPTER = True` it trains a LoRA adapter
under plain DDP instead: leave out the FSDP flags.

Flash attention packs each batch into one row without padding; the reference log-probabilities are computed in
the first minutes and stored in `output_dir`, so no reference model is held. After an interruption the same
command continues from the last whole checkpoint.
"""

from __future__ import annotations

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from pluralign.policy import OfflineConfig, OfflineTrainer, last_checkpoint, lora_config

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
TABLE = "runs/references/train.parquet"
ADAPTER = False


def main() -> None:
    """Trains and saves."""
    # All weights are trained in float32 and used in bfloat16 (autocast): at these learning rates updates of
    # bfloat16 weights would be rounded away. Under an adapter the frozen weights can stay in bfloat16.
    model = AutoModelForCausalLM.from_pretrained(
        MODEL, dtype="bfloat16" if ADAPTER else "float32", attn_implementation="flash_attention_2"
    )
    config = OfflineConfig(
        output_dir="runs/llama-qrpo",
        method="qrpo",
        beta=1e-3,  # only the top 0.7 % of the reference's responses are to become more probable
        learning_rate=1e-5 if ADAPTER else 3e-7,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,  # 128 rows a step on 8 GPUs
        max_length=2048,
        gradient_checkpointing=True,
        save_steps=200,
        save_total_limit=2,
        report_to="none",
    )
    trainer = OfflineTrainer(
        model,
        config,
        train_dataset=Dataset.from_parquet(TABLE),
        processing_class=AutoTokenizer.from_pretrained(MODEL),
        peft_config=lora_config(64, 128, 0.0, "all-linear") if ADAPTER else None,
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(config.output_dir))
    trainer.save_model("runs/llama-qrpo/final")


if __name__ == "__main__":
    main()
