"""The embedded site: this Python's own documentation, as a small web of real pages.

documentation.py  the site, and how its pages are cut into documents
pydoc_server.py   serves it, in a process of its own
voted.py          from its links to its texts
"""
