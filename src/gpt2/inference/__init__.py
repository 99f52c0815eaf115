"""Using a model: text, scores."""
