"""How the tiny language model is made: its text, its network, its training, its files."""
