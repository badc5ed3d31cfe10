"""Twin of acbo_ref/policy, as traced functions: reads, thinks, decides."""
