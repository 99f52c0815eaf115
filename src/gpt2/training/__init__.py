"""Tokens to a trained GPT-2."""
