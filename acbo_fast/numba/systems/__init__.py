"""Twin of acbo_ref/systems, as compiled kernels: many models as arrays."""
