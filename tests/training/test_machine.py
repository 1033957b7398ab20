from datetime import timedelta

import pytest
import torch

from ddpm_app.training.machine import mixed_precision, new_accelerator


def test_processes_wait_for_the_first_one_however_long_it_decodes(config):
    assert new_accelerator(config).init_handler.timeout > timedelta(days=1)


@pytest.mark.parametrize(("computes", "emulates", "chosen"), [(True, True, "bf16"), (False, True, "fp16")])
def test_bf16_is_chosen_only_where_the_gpu_computes_in_it(monkeypatch, computes, emulates, chosen):
    def supported(including_emulation=True):
        return emulates if including_emulation else computes

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert mixed_precision("auto") == chosen
