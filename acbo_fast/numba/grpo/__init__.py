"""Twin of acbo_ref/grpo, as compiled kernels: one iteration of learning."""
