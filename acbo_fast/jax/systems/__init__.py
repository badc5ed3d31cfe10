"""Twin of acbo_ref/systems, as traced functions: many models as arrays."""
