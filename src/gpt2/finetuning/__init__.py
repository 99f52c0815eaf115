"""Fine-tuning: the paper's next steps (section 6), and everyone's first wish: their own text."""
