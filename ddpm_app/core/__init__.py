"""The mathematics of diffusion models: torch only, pure, no files and no global random state.

Images are float32 tensors (B, C, H, W) in [-1, 1]; a timestep t is 0-based, so t is the paper's t + 1.
"""
