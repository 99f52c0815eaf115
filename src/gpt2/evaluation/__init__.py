"""How well a model predicts text it has not seen (paper 3)."""
