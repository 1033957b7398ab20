"""Colours and type, from fonts that every machine has."""

__all__ = ["THEME"]

import gradio as gr

THEME = gr.themes.Base(
    primary_hue="indigo",
    secondary_hue="indigo",
    neutral_hue="slate",
    radius_size="md",
    font=["ui-sans-serif", "system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_600",
    button_primary_text_color="white",
    block_label_text_weight="500",
    body_text_color_subdued="*neutral_600",  # read at a contrast of 4.5, and so are the next
    block_info_text_color="*neutral_600",
    block_label_text_color="*neutral_600",
    block_title_text_color="*neutral_700",
    input_placeholder_color="*neutral_600",
)
