"""The convergence analysis of section 4, one function for each labelled line; docs/theory.md has the derivations."""
