"""Ready-made settings for a training run, as fields of a TrainingConfig.

The paper's are those of appendix B of Ho, Jain and Abbeel (2020), with a constant learning rate after the
warm-up; the hybrid objective's are those that Nichol and Dhariwal (2021) give for CIFAR-10.
"""

__all__ = ["PRESETS"]

from typing import Any

PAPER: dict[str, Any] = {
    "attention_head_dim": 0,
    "norm_num_groups": 32,
    "warmup_steps": 5000,
    "final_learning_rate": 1.0,
    "ema_decay": 0.9999,
    "save_every": 5000,
    "sample_every": 5000,
}

# what the bundled models were found to learn best with, in few steps
SMALL: dict[str, Any] = {"prediction_type": "v_prediction", "schedule": "cosine", "min_snr_gamma": 5.0}

PRESETS: dict[str, dict[str, Any]] = {
    "Quick, gray 28 × 28 (CPU, minutes)": {
        "image_size": 28,
        "channels": 1,
        "block_out_channels": (32, 64, 64),
        "attention_resolutions": (7,),
        **SMALL,
        "num_steps": 2000,
        "batch_size": 32,
        "learning_rate": 8e-4,
        "save_every": 100,
        "sample_every": 200,
    },
    "Small, colour 32 × 32 (CPU, hours)": {
        "image_size": 32,
        "channels": 3,
        "block_out_channels": (32, 64, 128, 128),
        "attention_resolutions": (8, 4),
        **SMALL,
        "num_steps": 6000,
        "batch_size": 32,
        "learning_rate": 6e-4,
        "flip": True,
        "save_every": 200,
        "sample_every": 400,
    },
    "The paper's CIFAR-10 (GPU, days)": PAPER
    | {
        "image_size": 32,
        "channels": 3,
        "block_out_channels": (128, 256, 256, 256),
        "layers_per_block": 2,
        "attention_resolutions": (16,),
        "dropout": 0.1,
        "num_steps": 800_000,
        "batch_size": 128,
        "learning_rate": 2e-4,
        "flip": True,
    },
    "Improved DDPM's CIFAR-10: cosine, hybrid (GPU, days)": PAPER
    | {
        "image_size": 32,
        "channels": 3,
        "block_out_channels": (128, 256, 256, 256),
        "layers_per_block": 3,
        "attention_resolutions": (16, 8),
        "attention_head_dim": 64,
        "dropout": 0.3,
        "schedule": "cosine",
        "num_train_timesteps": 4000,
        "variance_type": "learned_range",
        "objective": "hybrid",
        "num_steps": 500_000,
        "batch_size": 128,
        "learning_rate": 1e-4,
        "warmup_steps": 0,
    },
    "The paper's 256 × 256 (several GPUs, weeks)": PAPER
    | {
        "image_size": 256,
        "channels": 3,
        "block_out_channels": (128, 128, 256, 256, 512, 512),
        "layers_per_block": 2,
        "attention_resolutions": (16,),
        "variance_type": "fixed_small",
        "num_steps": 500_000,
        "batch_size": 64,
        "learning_rate": 2e-5,
        "flip": True,
    },
}
