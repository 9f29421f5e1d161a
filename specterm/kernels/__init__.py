"""Code for the processor at hand, which LLVM compiles when it is needed first: what kernels are written and kept with,
and those that know logits only. Kernels of whole models are in `models.compiled`."""
