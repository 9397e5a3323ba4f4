"""Benchmark: records with intervals, controls beside models, tables and files of them."""
