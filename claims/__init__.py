"""The documents whose claims travel with optbench: one file for each, and in programs/ what measures them."""
