"""Evidence: what a stage states, and how statements and files become a bundle that a stranger can check."""
