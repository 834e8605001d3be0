"""Somebody's corpora → items: files, shapes, mending, filters, and what was kept before."""
