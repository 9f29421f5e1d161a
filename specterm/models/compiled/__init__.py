"""Kernels for decoding on a CPU, compiled for the machine that they run on by LLVM when a model is loaded."""
