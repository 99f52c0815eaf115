"""Studies: questions asked of many models or of all the data (paper 3.1 and 4).

scaling.py  a ladder of GPT-2s that differ in size: how far size helps (the paper's Figures 1 and 4)
"""
