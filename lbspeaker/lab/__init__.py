"""A whole cluster on one machine: namespaces, API server in memory, router, switch with a guard."""
