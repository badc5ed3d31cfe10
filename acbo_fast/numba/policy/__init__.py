"""Twin of acbo_ref/policy, as compiled kernels: reads, thinks, decides."""
