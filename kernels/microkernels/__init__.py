"""Multiply small dense blocks on the CPU: kernels generated with LLVM, and the ones of BLAS and MKL, all by address."""
