"""The page in the visitor's language: the English sentence is the key, and no widget knows about it.

`texts` takes properties of the page apart into sentences; `catalogues` knows what each is in Korean and
Chinese (ko.json, zh-CN.json); `page` hands both to Gradio's own i18n, which chooses in the browser; `speech`
translates what handlers say, for the language that the browser asks for. The served API stays English.
"""

from ddpm_app.ui.languages.page import Page
from ddpm_app.ui.languages.speech import note

__all__ = ["Page", "note"]
