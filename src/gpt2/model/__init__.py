"""GPT-2 as a network, its files, and where it computes (paper 2.3)."""
