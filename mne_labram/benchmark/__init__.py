"""Speed tables, and the made-up recording they and the demonstration need."""
