"""Twin of acbo_ref/grpo, as traced functions: one iteration of learning."""
