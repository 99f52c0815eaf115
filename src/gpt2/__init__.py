"""The whole of *Language Models are Unsupervised Multitask Learners* in one package."""
