"""The face: the command line and what its commands do. The only room that knows all the others."""
