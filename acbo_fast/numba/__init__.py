"""The Numba backend: products by BLAS through NumPy, what lies between them in fused kernels. Twins
of acbo_ref's modules.
"""
