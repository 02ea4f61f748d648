"""Examples: how they are read from files (`examples`), and those that come with the package.

``sentiment.csv`` was written for it and is in the public domain (CC0 1.0).
"""
