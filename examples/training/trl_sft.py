"""LoRA fine-tuning with TRL's SFTTrainer, a reward vector at every save: `python trl_sft.py BASE DATA SPEC OUT`.

BASE: a model folder with a chat template, or a hub id. DATA: JSON lines with `messages`. SPEC: what is measured. The vectors are in OUT/live.
"""

from __future__ import annotations

import sys

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

from harness import RewardCallback, RewardEnvironment

base, data, spec, out = sys.argv[1:]
with RewardEnvironment(spec, out=f"{out}/live") as environment:
    trainer = SFTTrainer(
        base,
        args=SFTConfig(
            output_dir=f"{out}/sft",
            max_steps=4,
            save_steps=2,
            per_device_train_batch_size=2,
            learning_rate=1e-2,
            max_length=512,
            report_to=[],
            seed=0,
            bf16=torch.cuda.is_available(),
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=load_dataset("json", data_files=data, split="train"),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
        callbacks=[RewardCallback(environment, on_feedback=lambda v: print(v.step, v.scalar, v.gain))],
    )
    trainer.train()
