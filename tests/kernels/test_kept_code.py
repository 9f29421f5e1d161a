"""Compiled kernels are kept between starts, and never trusted when they are not whole."""

import pytest
import torch

from specterm.decoding.host import HostKernels
from specterm.kernels.choosing import choosing
from specterm.kernels.kept_code import KeptCode
from specterm.kernels.machine import this_machine


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SPECTERM_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kernels"


def test_what_is_written_is_read_by_what_depends_on_the_same(folder):
    assert KeptCode("a", "b").read() is None
    KeptCode("a", "b").write(b"code")
    assert KeptCode("a", "b").read() == b"code"
    assert KeptCode("ab").read() is None
    assert [file.suffix for file in folder.iterdir()] == [".o"]


@pytest.mark.parametrize("broken", [b"", b"short", b"x" * 200])
def test_a_broken_file_is_as_good_as_none(broken, folder):
    KeptCode("a").write(b"code" * 40)
    (file,) = folder.iterdir()
    file.write_bytes(broken)
    assert KeptCode("a").read() is None
    file.write_bytes(b"")
    KeptCode("a").write(b"new")
    assert KeptCode("a").read() == b"new"


def test_a_folder_that_cannot_be_made_is_done_without(folder):
    folder.parent.write_text("a file")
    KeptCode("a").write(b"code")
    assert KeptCode("a").read() is None


def test_old_code_goes(folder):
    for number in range(70):
        KeptCode(str(number)).write(b"code")
    assert len(list(folder.iterdir())) == 64
    assert KeptCode("69").read() == b"code"


@pytest.mark.skipif(this_machine() is None, reason="no kernels for this processor")
def test_kept_kernels_compute_the_same_and_are_not_compiled_again(folder, monkeypatch):
    from llvmlite import binding

    def made():
        choosing.cache_clear()
        return HostKernels(this_machine())

    logits = torch.randn((1, 2, 100), generator=torch.Generator().manual_seed(3))
    compiled = made().likeliest(logits, 3)
    assert len(list(folder.iterdir())) == 1

    def refuse(*_, **__):
        raise AssertionError("it is compiled again")

    monkeypatch.setattr(binding, "create_pass_builder", refuse)
    assert made().likeliest(logits, 3) == compiled
    for file in folder.iterdir():
        file.write_bytes(b"broken")
    with pytest.raises(AssertionError, match="again"):
        made()
