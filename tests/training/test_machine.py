from datetime import timedelta

from ddpm_app.training.machine import new_accelerator


def test_processes_wait_for_the_first_one_however_long_it_decodes(config):
    assert new_accelerator(config).init_handler.timeout > timedelta(days=1)
