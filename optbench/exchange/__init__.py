"""Other people's numbers under the same statistics: tables and curves to rows, and rows to a table of curves."""
