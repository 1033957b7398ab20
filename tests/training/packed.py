"""Pictures in a file of many."""

import io
import zipfile

import pyarrow
import pyarrow.parquet
import torch

from ddpm_app.pictures import to_picture
from tests.training.runs import picture

SIX = torch.stack([picture(seed) for seed in range(6)])


def encoded(image, form="PNG", **settings):
    buffer = io.BytesIO()
    to_picture(image).save(buffer, form, **settings)
    return buffer.getvalue()


def zipped(file, members):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def parquet(file, **columns):
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file
