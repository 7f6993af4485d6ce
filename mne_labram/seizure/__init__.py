"""Seizures: labels, detection, scoring by SzCORE's rules, evaluation by subject, and the report."""
